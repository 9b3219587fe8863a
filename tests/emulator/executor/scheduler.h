// One fibre per CUDA thread: its state, its stack and the switch between two stacks.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include <csetjmp>
#include <csignal>

#include "machine.h"

#ifdef OTDIST_RACES
extern "C" {
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned);
void* __tsan_get_current_fiber();
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#define IN_RACE_LANE(...) __VA_ARGS__
#else
#define IN_RACE_LANE(...)
#endif

namespace emulator {

extern "C" void emulator_switch(void** save, void* resume) __attribute__((visibility("hidden")));

enum class State : uint8_t { ready, at_warp, at_block, at_grid, done };

// The sanitizer clears what it knows of every new stack.
#ifdef OTDIST_RACES
constexpr size_t stack_bytes = size_t{1} << 15;
#else
constexpr size_t stack_bytes = size_t{1} << 17;
#endif
constexpr unsigned maximum_threads = 1024;

struct Fibre {
  void* stack_pointer;
  char* stack;
  uint3 thread;
  unsigned mask;      // of the warp operation it waits in
  const void* place;  // of that operation in the kernel, for messages
  State state;
  uint8_t parity;     // which of the two slots the next warp operation writes
  IN_RACE_LANE(void* shadow = nullptr; uint8_t block_phase = 0, warp_phase = 0, grid_phase = 0;)
};

struct Launch {
  uint32_t grid[3], block[3];
  uint32_t shared;
  int32_t schedule;
  int32_t cooperative;
  double seconds;
  void (*kernel)(void**);
  void** arguments;
  void (*attach)(Block*);
  const void* (*static_shared)();
  char error[400];
  uint64_t places[4];  // addresses in the kernel that the error speaks of
};

class GridBarrier;

// Everything of one resident block: what the kernel sees, its fibres, the mailboxes of its warps.
struct Resident {
  Block block;
  Launch* launch;
  Fibre* fibres;
  Fibre* current;
  void* scheduler;
  unsigned threads;
  uint64_t (*slots)[2][lanes][slot_words];
  int counted;
  bool failed;
  char error[400];
  uint64_t places[4];
  sigjmp_buf escape;
  IN_RACE_LANE(void* shadow; char block_order[2], warp_order[lanes][2]; char* launch_order;)
};

extern thread_local Resident* resident;

void fail(const char* message, const void* place);
void yield(State state, unsigned mask, const void* place, bool orders_memory);
bool run_block(Resident& r, GridBarrier* grid);

}  // namespace emulator
