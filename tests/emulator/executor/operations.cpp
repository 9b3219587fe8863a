// The operations of a block and of a warp that a kernel calls: barriers, exchanges, votes.
#include "scheduler.h"

using namespace emulator;

namespace {

unsigned lane_of(const Fibre* f) { return static_cast<unsigned>(f - resident->fibres) % lanes; }

// Lanes that the mask names and the block has.
unsigned present(const Fibre* f, unsigned mask) {
  const unsigned warp = static_cast<unsigned>(f - resident->fibres) / lanes, left = resident->threads - warp * lanes;
  return left >= lanes ? mask : mask & ((1u << left) - 1);
}

uint64_t (*exchange(unsigned mask, const unsigned long long* mine, int words, const void* place))[slot_words] {
  Resident& r = *resident;
  Fibre* f = r.current;
  const unsigned lane = lane_of(f), warp = static_cast<unsigned>(f - r.fibres) / lanes;
  if (!(mask >> lane & 1)) fail("a lane calls a warp operation whose mask leaves it out", place);
  f->parity ^= 1;
  auto slots = r.slots[warp][f->parity];
  for (int k = 0; k < words; k++) *const_cast<volatile uint64_t*>(&slots[lane][k]) = mine[k];
  yield(State::at_warp, mask, place, false);
  return slots;
}

}  // namespace

#define PLACE __builtin_return_address(0)

extern "C" {

// Used by kernels that carry mutants (mutants.h).
int emulator_mutant = -1;
unsigned char emulator_reached[4096];

void emulator_syncthreads() { yield(State::at_block, 0, PLACE, true); }

int emulator_syncthreads_count(int predicate) {
  Resident& r = *resident;
  // Three barriers: the count is cleared, taken and read by all before the next call may clear it.
  yield(State::at_block, 0, PLACE, true);
  r.counted = 0;
  yield(State::at_block, 0, PLACE, true);
  r.counted += predicate != 0;
  yield(State::at_block, 0, PLACE, true);
  return r.counted;
}

void emulator_syncwarp(unsigned mask) {
  if (!(mask >> lane_of(resident->current) & 1)) fail("a lane calls __syncwarp whose mask leaves it out", PLACE);
  yield(State::at_warp, mask, PLACE, true);
}

void emulator_syncgrid() { yield(State::at_grid, 0, PLACE, true); }

const unsigned long long* emulator_gather(unsigned mask, const unsigned long long* mine, int words) {
  return reinterpret_cast<const unsigned long long*>(exchange(mask, mine, words, PLACE));
}

unsigned emulator_vote(unsigned mask, int predicate) {
  const unsigned long long mine = predicate != 0;
  auto slots = exchange(mask, &mine, 1, PLACE);
  const unsigned here = present(resident->current, mask);
  unsigned votes = 0;
  for (unsigned k = 0; k < lanes; k++)
    if (here >> k & 1) votes |= static_cast<unsigned>(slots[k][0]) << k;
  return votes;
}

unsigned emulator_match(unsigned mask, unsigned long long value) {
  auto slots = exchange(mask, &value, 1, PLACE);
  const unsigned here = present(resident->current, mask);
  unsigned equal = 0;
  for (unsigned k = 0; k < lanes; k++)
    if (here >> k & 1 && slots[k][0] == value) equal |= 1u << k;
  return equal;
}

void emulator_require_lane(unsigned mask, unsigned lane) {
  if (!(present(resident->current, mask) >> lane & 1)) fail("a shuffle reads a lane outside its mask or block", PLACE);
}

void emulator_fence() {
  IN_RACE_LANE(static char order; __tsan_release(&order); __tsan_acquire(&order);)
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void emulator_fail(const char* message) {
  fail(message, PLACE);
  siglongjmp(resident->escape, 1);
}
}
