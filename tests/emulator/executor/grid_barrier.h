// The barrier of all blocks of a cooperative launch; each block has its own operating-system thread there.
#pragma once
#include <condition_variable>
#include <mutex>

namespace emulator {

class GridBarrier {
 public:
  explicit GridBarrier(unsigned blocks) : blocks_(blocks) {}

  bool wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const unsigned round = round_;
    if (++arrived_ == blocks_) {
      arrived_ = 0;
      round_++;
      all_.notify_all();
    }
    all_.wait(lock, [&] { return round_ != round || broken_; });
    return !broken_;
  }

  // A block that ends waits for nobody any more; one that failed lets the others go.
  void leave(bool failed) {
    std::lock_guard<std::mutex> lock(mutex_);
    broken_ = broken_ || failed || arrived_ > 0;
    blocks_--;
    all_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_;
  unsigned blocks_, arrived_ = 0, round_ = 0;
  bool broken_ = false;
};

}  // namespace emulator
