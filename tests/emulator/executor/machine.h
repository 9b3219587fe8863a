// What a compiled kernel and the scheduler know of one another. Included by both; no standard header, so that kernels
// compile quickly.
#pragma once

using emulator_size = decltype(sizeof(0));

struct uint3 {
  unsigned int x, y, z;
};

struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int a = 1, unsigned int b = 1, unsigned int c = 1) : x(a), y(b), z(c) {}
};

namespace emulator {

// One block in execution. A kernel reads its indices and its dynamic shared memory here; the rest is the scheduler's.
struct Block {
  uint3 thread;             // threadIdx of the running fibre
  unsigned int rank;        // its number in the block
  uint3 index;              // blockIdx
  dim3 shape, grid;         // blockDim, gridDim
  unsigned int threads;     // in the block
  void* dynamic_shared;
  emulator_size dynamic_bytes;
};

constexpr int lanes = 32;
constexpr int slot_words = 8;  // what a lane may hand to the others in one warp operation: 64 bytes

}  // namespace emulator

// The scheduler, seen from a kernel. Every call may switch to another fibre.
extern "C" {
void emulator_syncthreads();
int emulator_syncthreads_count(int predicate);
void emulator_syncwarp(unsigned int mask);
void emulator_syncgrid();
// Hands `words` 64-bit words to the lanes of `mask`; returns their slots, lane after lane, slot_words apart.
const unsigned long long* emulator_gather(unsigned int mask, const unsigned long long* mine, int words);
unsigned int emulator_vote(unsigned int mask, int predicate);
unsigned int emulator_match(unsigned int mask, unsigned long long value);
void emulator_fence();
void emulator_require_lane(unsigned int mask, unsigned int lane);
[[noreturn]] void emulator_fail(const char* message);
}
