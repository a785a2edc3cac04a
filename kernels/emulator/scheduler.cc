// Runs a grid: block after block, and inside a block one warp as far as it can go, then the next. That is the greatest skew
// between warps that a GPU could show, so a missing barrier gives a wrong result rather than a lucky one.
//
// EMULATOR_ORDER: forward (default), reverse, or shuffle:SEED, for blocks, warps and lanes alike.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <numeric>
#include <random>

#include "block.h"
#include "runtime.h"

namespace emulator {

ThreadView *self = nullptr;
Block block;

namespace {

Fiber *scheduler = nullptr;
unsigned char *shared_memory = nullptr;
std::mutex one_grid_at_a_time;

enum class Order { forward, reverse, shuffle };

struct Ordering {
  Order order = Order::forward;
  std::mt19937 random;

  Ordering() {
    const char *text = getenv("EMULATOR_ORDER");
    if (text == nullptr || strcmp(text, "forward") == 0) return;
    if (strcmp(text, "reverse") == 0) order = Order::reverse;
    else if (strncmp(text, "shuffle:", 8) == 0) {
      order = Order::shuffle;
      random.seed(static_cast<unsigned>(strtoul(text + 8, nullptr, 10)));
    } else {
      fprintf(stderr, "emulator: EMULATOR_ORDER is %s; it must be forward, reverse or shuffle:SEED\n", text);
      _Exit(exit_code);
    }
  }

  void arrange(std::vector<unsigned> &indices, size_t count) {
    indices.resize(count);
    std::iota(indices.begin(), indices.end(), 0u);
    if (order == Order::reverse) {
      for (size_t at = 0; at < count / 2; at++) std::swap(indices[at], indices[count - 1 - at]);
    }
    // Not std::shuffle: its results differ between libraries, and a seed must mean the same order everywhere.
    if (order == Order::shuffle) {
      for (size_t at = count; at > 1; at--) std::swap(indices[at - 1], indices[random() % at]);
    }
  }
};

Ordering &ordering() {
  static Ordering one;
  return one;
}

void thread_main() {
  for (;;) {
    Thread &thread = current();
    thread.fiber->arrive();
    race_acquire(&block.start_order);
    block.launch.entry(block.launch.closure);
    if (!thread.copies.empty()) fail(thread.copied, "the thread ended with a cp.async that nobody waited for");
    race_release(&block.end_order);
    thread.state = State::done;
    block.warps[thread.warp].exited |= 1u << thread.lane;
    thread.fiber->switch_to(*scheduler, true);
  }
}

void resume(Thread &thread) {
  self = &thread;
  scheduler->switch_to(*thread.fiber);
  self = nullptr;
}

void prepare(uint3 index) {
  const dim3 size = block.launch.block;
  block.count = static_cast<size_t>(size.x) * size.y * size.z;
  while (block.threads.size() < block.count) block.threads.push_back(std::make_unique<Thread>());
  block.warps.assign((block.count + 31) / 32, Warp{});
  for (unsigned at = 0; at < block.count; at++) {
    Thread &thread = *block.threads[at];
    thread.thread_index = {at % size.x, at / size.x % size.y, at / size.x / size.y};
    thread.block_index = index;
    thread.block_size = size;
    thread.grid_size = block.launch.grid;
    thread.lane = at % 32;
    thread.warp = at / 32;
    block.warps[thread.warp].present |= 1u << thread.lane;
    thread.state = State::ready;
    thread.group = 0;
    if (thread.fiber == nullptr) thread.fiber = std::make_unique<Fiber>(thread_main);
    else thread.fiber->reset();
  }
  // By hand: a call of memset would be seen by the race checker as a write of the kernel's.
  for (size_t at = 0; at < block.launch.shared_bytes; at++) static_cast<volatile unsigned char *>(shared_memory)[at] = 0xff;
}

/** Lets every warp run until none of its lanes can go on. @returns how many threads were run */
size_t run_warps() {
  static std::vector<unsigned> warps, lanes;
  size_t runs = 0;
  ordering().arrange(warps, block.warps.size());
  for (unsigned warp : warps) {
    const size_t first = warp * 32u;
    for (bool again = true; again;) {
      again = false;
      ordering().arrange(lanes, std::min<size_t>(32, block.count - first));
      for (unsigned lane : lanes) {
        Thread &thread = *block.threads[first + lane];
        if (thread.state != State::ready) continue;
        resume(thread);
        again = true;
        runs++;
      }
    }
  }
  return runs;
}

/** All threads wait at the same barrier: lets them on. @returns false if all are done */
bool next_phase() {
  size_t done = 0, waiting = 0;
  const Thread *first = nullptr;
  bool is_one_place = true;
  for (size_t at = 0; at < block.count; at++) {
    const Thread &thread = *block.threads[at];
    if (thread.state == State::done) done++;
    if (thread.state != State::at_barrier) continue;
    waiting++;
    if (first == nullptr) first = &thread;
    is_one_place &= thread.place.line == first->place.line && strcmp(thread.place.file, first->place.file) == 0;
  }
  if (done == block.count) return false;
  if (waiting < block.count || !is_one_place) report_stall();
  block.generation++;
  for (size_t at = 0; at < block.count; at++) block.threads[at]->state = State::ready;
  return true;
}

void run_block(uint3 index) {
  prepare(index);
  race_release(&block.start_order);
  do run_warps();
  while (next_phase());
  race_acquire(&block.end_order);
}

cudaError_t check(const Launch &launch) {
  const dim3 grid = launch.grid, size = launch.block;
  const auto within = [](unsigned value, unsigned most) { return value >= 1 && value <= most; };
  if (!within(grid.x, 0x7fffffffu) || !within(grid.y, 65535) || !within(grid.z, 65535)) return cudaErrorInvalidConfiguration;
  if (!within(size.x, 1024) || !within(size.y, 1024) || !within(size.z, 64)) return cudaErrorInvalidConfiguration;
  if (size.x * size.y * size.z > 1024) return cudaErrorInvalidConfiguration;
  return launch.shared_bytes > shared_limit(launch.function) ? cudaErrorInvalidValue : cudaSuccess;
}

}  // namespace

Thread &current() { return *static_cast<Thread *>(self); }

void suspend() {
  Thread &thread = current();
  thread.fiber->switch_to(*scheduler);
}

int run(const Launch &launch) {
  if (const cudaError_t error = check(launch)) return error;
  const std::lock_guard<std::mutex> lock(one_grid_at_a_time);
  Fiber caller;
  scheduler = &caller;
  block.launch = launch;
  // Its exact size, so that the address checker sees its end; a fresh one each launch, so that it sees stale pointers too.
  void *memory = nullptr;
  if (launch.shared_bytes > 0 && posix_memalign(&memory, 128, launch.shared_bytes) != 0) return cudaErrorMemoryAllocation;
  shared_memory = static_cast<unsigned char *>(memory);
  const dim3 grid = launch.grid;
  std::vector<unsigned> blocks;
  ordering().arrange(blocks, static_cast<size_t>(grid.x) * grid.y * grid.z);
  for (unsigned at : blocks) run_block({at % grid.x, at / grid.x % grid.y, at / grid.x / grid.y});
  free(memory);
  shared_memory = nullptr;
  scheduler = nullptr;
  return cudaSuccess;
}

void *dynamic_shared() { return shared_memory; }

void barrier(Place place) {
  Thread &thread = current();
  thread.state = State::at_barrier;
  thread.place = place;
  char *order = &block.barrier_order[block.generation & 1];
  race_release(order);
  suspend();
  race_acquire(order);
}

void copy_begin(const Copy &copy, Place place) {
  Thread &thread = current();
  thread.copies.push_back(copy);
  thread.copies.back().group = thread.group;
  thread.copied = place;
}

void copy_commit() { current().group++; }

const Copy *copy_take(unsigned groups, size_t *count) {
  Thread &thread = current();
  thread.arrived.clear();
  size_t kept = 0;
  for (const Copy &copy : thread.copies) {
    // Copies that were not committed yet (group == thread.group) are in no group, and no wait waits for them.
    if (copy.group + groups < thread.group) thread.arrived.push_back(copy);
    else thread.copies[kept++] = copy;
  }
  thread.copies.resize(kept);
  *count = thread.arrived.size();
  return thread.arrived.data();
}

}  // namespace emulator
