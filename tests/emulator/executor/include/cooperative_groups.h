// The groups that the kernels use: the grid of a cooperative launch and the block.
#pragma once

namespace cooperative_groups {

struct thread_block {
  void sync() const { __syncthreads(); }
  unsigned thread_rank() const { return emulator::block->rank; }
  unsigned size() const { return emulator::block->threads; }
};
inline thread_block this_thread_block() { return {}; }

struct grid_group {
  void sync() const { emulator_syncgrid(); }
  bool is_valid() const { return true; }
  unsigned long long size() const {
    return 1ull * gridDim.x * gridDim.y * gridDim.z * emulator::block->threads;
  }
  unsigned long long thread_rank() const {
    return (blockIdx.x + 1ull * gridDim.x * (blockIdx.y + 1ull * gridDim.y * blockIdx.z)) * emulator::block->threads +
           emulator::block->rank;
  }
};
inline grid_group this_grid() { return {}; }

}  // namespace cooperative_groups
