// A launch: checks its configuration, runs its blocks one after another (all at once when cooperative), turns faults and
// endless loops of a fibre into errors.
#include <link.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "grid_barrier.h"
#include "scheduler.h"

namespace emulator {
namespace {

constexpr size_t page = 4096;
constexpr unsigned maximum_shared = 227 * 1024;
const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGVTALRM};
struct sigaction before[5];

void on_fault(int signal, siginfo_t* info, void* context) {
  Resident* r = resident;
  if (!r || !r->current) {  // not in a kernel: as if this handler were not there
    if (signal == SIGVTALRM) return;
    for (int k = 0; k < 5; k++)
      if (faults[k] == signal) sigaction(signal, &before[k], nullptr);
    return;
  }
  char message[120];
  if (signal == SIGSEGV || signal == SIGBUS)
    snprintf(message, sizeof message, "an access outside every array, at address %p", info->si_addr);
  else if (signal == SIGILL)
    snprintf(message, sizeof message, "an index outside its shared or local array, or a trap");
  else if (signal == SIGFPE)
    snprintf(message, sizeof message, "an integer division by zero");
  else
    snprintf(message, sizeof message, "the launch runs longer than %g s: an endless loop?", r->launch->seconds);
  const auto* machine = static_cast<ucontext_t*>(context);
  fail(message, reinterpret_cast<const void*>(machine->uc_mcontext.gregs[REG_RIP] + 1));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  siglongjmp(r->escape, 1);
}

// Calls SIGVTALRM in this thread once it has used so many seconds of processor time.
class Alarm {
 public:
  explicit Alarm(double seconds) {
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGVTALRM;
    event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
    armed_ = timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer_) == 0;
    itimerspec when{};
    when.it_value.tv_sec = static_cast<time_t>(seconds);
    when.it_value.tv_nsec = static_cast<long>((seconds - static_cast<double>(when.it_value.tv_sec)) * 1e9) + 1;
    if (armed_) timer_settime(timer_, 0, &when, nullptr);
  }
  ~Alarm() {
    if (armed_) timer_delete(timer_);
  }

 private:
  timer_t timer_;
  bool armed_;
};

struct Range {
  const char* address;
  char* data;
  size_t bytes;
};

int find_range(dl_phdr_info* info, size_t, void* wanted) {
  auto& range = *static_cast<Range*>(wanted);
  char* data = static_cast<char*>(info->dlpi_tls_data);
  for (int k = 0; data && k < info->dlpi_phnum; k++) {
    const auto& header = info->dlpi_phdr[k];
    if (header.p_type != PT_TLS || range.address < data || range.address >= data + header.p_memsz) continue;
    range.data = data;
    range.bytes = header.p_memsz;
    return 1;
  }
  return 0;
}

char* map(size_t bytes) {
  return static_cast<char*>(
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
}

// The memory of one resident block, used for one block after another. What fibres touch is mapped, not allocated: in the
// race lane, freeing it would look like a write that nothing orders after theirs.
class Place {
 public:
  explicit Place(Launch& launch) {
    Resident& r = resident_;
    memset(static_cast<void*>(&r), 0, sizeof r);
    r.launch = &launch;
    r.threads = r.block.threads = launch.block[0] * launch.block[1] * launch.block[2];
    r.block.shape = {launch.block[0], launch.block[1], launch.block[2]};
    r.block.grid = {launch.grid[0], launch.grid[1], launch.grid[2]};
    fibres_.resize(r.threads);
    r.fibres = fibres_.data();
    stacks_ = map(r.threads * stack_bytes);
    for (unsigned i = 0; i < r.threads; i++) {
      fibres_[i].stack = stacks_ + i * stack_bytes;
      mprotect(fibres_[i].stack, page, PROT_NONE);
    }
    slots_bytes_ = (r.threads + lanes - 1) / lanes * sizeof *r.slots;
    r.slots = reinterpret_cast<uint64_t(*)[2][lanes][slot_words]>(map(slots_bytes_));
    // Dynamic shared memory ends at a page that may not be touched, up to the 16-byte alignment of its start.
    dynamic_bytes_ = (launch.shared + page - 1) / page * page;
    dynamic_ = map(dynamic_bytes_ + page);
    mprotect(dynamic_ + dynamic_bytes_, page, PROT_NONE);
    r.block.dynamic_bytes = launch.shared;
    r.block.dynamic_shared = dynamic_ + ((dynamic_bytes_ - launch.shared) & ~size_t{15});
    signal_stack_.resize(1 << 16);
    stack_t stack{};
    stack.ss_sp = signal_stack_.data();
    stack.ss_size = signal_stack_.size();
    sigaltstack(&stack, &signal_stack_before_);
    Range range{static_cast<const char*>(launch.static_shared()), nullptr, 0};
    dl_iterate_phdr(find_range, &range);
    static_ = range;
  }

  ~Place() {
    sigaltstack(&signal_stack_before_, nullptr);
    IN_RACE_LANE(for (auto& f : fibres_) if (f.shadow) __tsan_destroy_fiber(f.shadow);)
    munmap(resident_.slots, slots_bytes_);
    munmap(stacks_, resident_.threads * stack_bytes);
    munmap(dynamic_, dynamic_bytes_ + page);
  }

  // All bits set: a NaN in every float type, -1 in every integer, so that what is read before it is written shows.
  bool run(uint64_t number, GridBarrier* barrier, char* launch_order) {
    Resident& r = resident_;
    const auto& grid = r.block.grid;
    r.block.index = {unsigned(number % grid.x), unsigned(number / grid.x % grid.y), unsigned(number / grid.x / grid.y)};
    if (static_.bytes) memset(static_.data, 0xff, static_.bytes);
    memset(dynamic_, 0xff, dynamic_bytes_);
    r.launch->attach(&r.block);
    IN_RACE_LANE(r.launch_order = launch_order;)
    (void)launch_order;
    resident = &r;
    const bool done = run_block(r, barrier);
    resident = nullptr;
    return done;
  }

  const Resident& resident_block() const { return resident_; }

 private:
  Resident resident_;
  std::vector<Fibre> fibres_;
  std::vector<char> signal_stack_;
  stack_t signal_stack_before_{};
  Range static_{};
  char *stacks_, *dynamic_;
  size_t dynamic_bytes_, slots_bytes_;
};

#ifdef OTDIST_RACES
// The sanitizer clears what it knows of a new thread's stack, which takes long for the usual 8 MB.
template <class F>
void in_small_thread(F work) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 1 << 18);
  pthread_t thread;
  pthread_create(
      &thread, &attributes, [](void* f) -> void* { return (*static_cast<F*>(f))(), nullptr; }, &work);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}
#endif

bool refuse(Launch& launch, const char* message) {
  snprintf(launch.error, sizeof launch.error, "%s", message);
  return false;
}

bool check(Launch& launch) {
  const uint32_t *g = launch.grid, *b = launch.block;
  const uint64_t threads = uint64_t{b[0]} * b[1] * b[2];
  if (!threads || threads > maximum_threads || b[2] > 64) return refuse(launch, "a block of no or more than 1024 threads");
  if (!g[0] || !g[1] || !g[2] || g[0] > 0x7fffffffu || g[1] > 65535 || g[2] > 65535)
    return refuse(launch, "a grid that is empty or above 2^31 - 1 by 65535 by 65535 blocks");
  if (launch.shared > maximum_shared) return refuse(launch, "more than 227 KB of dynamic shared memory");
  if (launch.cooperative && uint64_t{g[0]} * g[1] * g[2] > 128)
    return refuse(launch, "a cooperative launch of more blocks than the device can hold at once");
  return true;
}

}  // namespace
}  // namespace emulator

extern "C" void emulator_launch(emulator::Launch* launch) {
  using namespace emulator;
  launch->error[0] = 0;
  if (!check(*launch)) return;
  const uint64_t blocks = uint64_t{launch->grid[0]} * launch->grid[1] * launch->grid[2];
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (int k = 0; k < 5; k++) sigaction(faults[k], &action, &before[k]);
  GridBarrier barrier(static_cast<unsigned>(blocks));
  std::mutex mutex;
  std::atomic<bool> failed{false};
  char launch_order[3];
  auto run = [&](uint64_t first, uint64_t past) {
    Place place(*launch);
    Alarm alarm(launch->seconds);
    for (uint64_t i = first; i < past && !failed; i++) {
      const uint64_t number = launch->schedule & 1 ? blocks - 1 - i : i;
      const bool done = place.run(number, launch->cooperative ? &barrier : nullptr, launch_order);
      if (!done) {
        std::lock_guard<std::mutex> lock(mutex);
        if (!failed.exchange(true)) {
          memcpy(launch->error, place.resident_block().error, sizeof launch->error);
          memcpy(launch->places, place.resident_block().places, sizeof launch->places);
        }
      }
      if (launch->cooperative) barrier.leave(!done);
    }
  };
  if (launch->cooperative) {
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < blocks; i++) threads.emplace_back(run, i, i + 1);
    for (auto& thread : threads) thread.join();
  } else {
#ifdef OTDIST_RACES
    // A thread for each block: static shared memory of the last block must not look like that of the next.
    for (uint64_t i = 0; i < blocks && !failed; i++) in_small_thread([&] { run(i, i + 1); });
#else
    run(0, blocks);
#endif
  }
  IN_RACE_LANE(__tsan_acquire(launch_order + 2);)
  for (int k = 0; k < 5; k++) sigaction(faults[k], &before[k], nullptr);
}
