// Runs the fibres of one block in turn, from barrier to barrier, in one of four orders.
#include "scheduler.h"

#include "grid_barrier.h"

asm(R"(
.text
.hidden emulator_switch
.globl emulator_switch
.type emulator_switch,@function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch, .-emulator_switch
)");

namespace emulator {

thread_local Resident* resident = nullptr;

void fail(const char* message, const void* place) {
  Resident& r = *resident;
  if (r.failed) return;
  r.failed = true;
  const uint3 b = r.block.index, t = r.current ? r.current->thread : uint3{0, 0, 0};
  snprintf(r.error, sizeof r.error, "%s [block (%u, %u, %u), thread (%u, %u, %u)]", message, b.x, b.y, b.z, t.x, t.y, t.z);
  r.places[0] = reinterpret_cast<uint64_t>(place);
}

// In the race lane a barrier is the only thing that orders the memory of two fibres: each fibre releases the barrier's
// token on arrival and acquires it on leaving. Tokens alternate, so that a fast fibre at the next barrier gives nothing
// to a slow one that still leaves this one.
void yield(State state, unsigned mask, const void* place, bool orders_memory) {
  Resident& r = *resident;
  Fibre* f = r.current;
  f->state = state;
  f->mask = mask;
  f->place = place;
  IN_RACE_LANE(void* token = nullptr; if (state == State::done) token = r.launch_order + 2;
               else if (state == State::at_grid) token = r.launch_order + (f->grid_phase ^= 1);
               else if (state == State::at_block) token = &r.block_order[f->block_phase ^= 1];
               else if (orders_memory) token = &r.warp_order[(f - r.fibres) / lanes][f->warp_phase ^= 1];
               if (token) __tsan_release(token); __tsan_switch_to_fiber(r.shadow, 1);)
  (void)orders_memory;
  emulator_switch(&f->stack_pointer, r.scheduler);
  IN_RACE_LANE(if (token) __tsan_acquire(token);)
}

namespace {

void fibre_main() {
  resident->launch->kernel(resident->launch->arguments);
  yield(State::done, 0, nullptr, false);
  __builtin_unreachable();
}

void start_fibre(Resident& r, unsigned rank) {
  Fibre& f = r.fibres[rank];
  const dim3& shape = r.block.shape;
  f.thread = {rank % shape.x, rank / shape.x % shape.y, rank / (shape.x * shape.y)};
  f.state = State::ready;
  f.parity = 0;
  // Stacks are shifted against one another: 1024 of them at one cache set would thrash. 64-byte steps keep the
  // alignment; the word below the entry is the return address of fibre_main, which never returns.
  void** top = reinterpret_cast<void**>(f.stack + stack_bytes - (rank & 63) * 64 - 64);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(fibre_main);
  for (int saved = 0; saved < 6; saved++) *--top = nullptr;
  f.stack_pointer = top;
  IN_RACE_LANE(if (f.shadow) __tsan_destroy_fiber(f.shadow); f.shadow = __tsan_create_fiber(0);
               f.block_phase = f.warp_phase = f.grid_phase = 0;)
}

bool reject(Resident& r, unsigned rank, const char* message) {
  r.current = &r.fibres[rank];
  fail(message, r.fibres[rank].place);
  return false;
}

// `rank` is elsewhere than at the barrier that others wait at; the place named is theirs.
bool reject_absent(Resident& r, unsigned rank, State barrier, const char* message) {
  r.current = &r.fibres[rank];
  const void* place = nullptr;
  for (unsigned i = 0; i < r.threads && !place; i++)
    if (r.fibres[i].state == barrier) place = r.fibres[i].place;
  fail(message, place);
  return false;
}

// Lets through every warp operation of this warp whose lanes have all arrived. `moved` tells whether any did.
bool release_warp(Resident& r, unsigned first, unsigned past, bool& moved) {
  for (unsigned i = first; i < past; i++) {
    Fibre& f = r.fibres[i];
    if (f.state != State::at_warp) continue;
    bool complete = true;
    for (unsigned j = first; j < past && complete; j++) {
      if (!(f.mask >> (j - first) & 1)) continue;
      const Fibre& other = r.fibres[j];
      if (other.state == State::done) return reject(r, i, "a warp operation names a lane that has exited");
      complete = other.state == State::at_warp && other.mask == f.mask;
    }
    if (!complete) continue;
    const unsigned mask = f.mask;
    for (unsigned j = first; j < past; j++)
      if (mask >> (j - first) & 1) r.fibres[j].state = State::ready;
    moved = true;
  }
  return true;
}

// Schedule 0 runs warps and lanes upwards, 1 downwards, 2 and 3 begin with another warp and differ in the lanes' order.
bool run_to_barrier(Resident& r, unsigned& alive) {
  const unsigned warps = (r.threads + lanes - 1) / lanes;
  const int schedule = r.launch->schedule & 3;
  for (unsigned k = 0; k < warps; k++) {
    const unsigned warp = schedule == 1 ? warps - 1 - k : schedule > 1 ? (k + schedule) % warps : k;
    const unsigned first = warp * lanes, past = first + lanes < r.threads ? first + lanes : r.threads;
    for (bool moved = true; moved;) {
      moved = false;
      for (unsigned lane = 0; lane < past - first; lane++) {
        Fibre& f = r.fibres[schedule & 1 ? past - 1 - lane : first + lane];
        if (f.state != State::ready) continue;
        r.current = &f;
        r.block.thread = f.thread;
        r.block.rank = static_cast<unsigned>(&f - r.fibres);
        IN_RACE_LANE(__tsan_switch_to_fiber(f.shadow, 1);)
        emulator_switch(&r.scheduler, f.stack_pointer);
        alive -= f.state == State::done;
        if (r.failed) return false;
      }
      if (!release_warp(r, first, past, moved)) return false;
    }
  }
  return true;
}

}  // namespace

bool run_block(Resident& r, GridBarrier* grid) {
  for (unsigned i = 0; i < r.threads; i++) start_fibre(r, i);
  IN_RACE_LANE(r.shadow = __tsan_get_current_fiber();)
  // A signal handler that has recorded a fault in a fibre comes back here.
  if (sigsetjmp(r.escape, 0)) return false;
  for (unsigned alive = r.threads; alive;) {
    if (!run_to_barrier(r, alive)) return false;
    if (!alive) break;
    unsigned at_block = 0, at_grid = 0;
    for (unsigned i = 0; i < r.threads; i++) {
      const State s = r.fibres[i].state;
      if (s == State::at_warp) return reject(r, i, "a warp operation waits for lanes that are elsewhere");
      at_block += s == State::at_block;
      at_grid += s == State::at_grid;
    }
    for (unsigned i = 0; i < r.threads; i++) {
      const State s = r.fibres[i].state;
      if (at_block && s != State::at_block)
        return reject_absent(r, i, State::at_block, "a thread does not come to a __syncthreads of the others");
      if (at_grid && s != State::at_grid)
        return reject_absent(r, i, State::at_grid, "a thread does not come to the grid barrier of the others");
    }
    for (unsigned i = 0; i < r.threads; i++) r.fibres[i].state = State::ready;
    if (at_grid && !grid) return reject(r, 0, "a grid barrier in a launch that is not cooperative");
    if (at_grid && !grid->wait()) return reject(r, 0, "a block ends or fails while this one waits at the grid barrier");
  }
  return true;
}

}  // namespace emulator
