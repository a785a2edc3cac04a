// Calls of the LoRA kernels with random values, and the same computed plainly in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "cuda/lora.h"
#include "gpu.cuh"

// A small generator of its own, so that a seed means the same numbers everywhere.
struct Random {
  uint64_t state;
  explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15ull + 1) {}
  uint32_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<uint32_t>(state >> 32);
  }
  int below(int end) { return static_cast<int>(next() % static_cast<uint32_t>(end)); }
  float within(float size) { return (static_cast<float>(next() >> 8) / (1 << 23) - 1) * size; }
};

// Device memory with a copy on the host, freed at the end. On the shim the two are alike, on a GPU they are not.
template <typename V>
class Memory {
 public:
  Memory() = default;
  explicit Memory(std::vector<V> values) : host(std::move(values)) {
    cudaMalloc(&device_, std::max<size_t>(1, host.size() * sizeof(V)));
    upload();
  }
  Memory(const Memory &) = delete;
  Memory(Memory &&other) noexcept : host(std::move(other.host)), device_(other.device_) { other.device_ = nullptr; }
  Memory &operator=(Memory &&other) noexcept {
    std::swap(host, other.host);
    std::swap(device_, other.device_);
    return *this;
  }
  ~Memory() { cudaFree(device_); }

  V *device() const { return device_; }
  void upload() { cudaMemcpy(device_, host.data(), host.size() * sizeof(V), cudaMemcpyHostToDevice); }
  void download() { cudaMemcpy(host.data(), device_, host.size() * sizeof(V), cudaMemcpyDeviceToHost); }

  std::vector<V> host;

 private:
  V *device_ = nullptr;
};

struct Shape {
  int rows, in, slots, max_rank;
  std::vector<int> outs;
  // [rows] −1: none
  std::vector<int> slot;
  // [pairs][slots]
  std::vector<std::vector<int>> ranks;
};

// The bits of a 16-bit type, whichever it is.
template <typename T>
T nan_of() {
  return from_float<T>(std::numeric_limits<float>::quiet_NaN());
}

template <typename T>
struct LoraCase {
  Shape shape;
  int columns = 0;
  Memory<T> y, x;
  std::vector<Memory<T>> a, b;
  std::vector<Memory<int>> rank;
  Memory<int> slot;
  Memory<float> scale;
  std::vector<T> y_before;
  quiver_lora_call call{};

  LoraCase(const Shape &given, uint64_t seed) : shape(given) {
    Random random(seed);
    const int gap = 8;
    // Columns between the pairs belong to nobody and must stay.
    for (int out : shape.outs) columns += out + gap;
    const auto values = [&](size_t count, float size) {
      std::vector<T> made(count);
      for (T &value : made) value = from_float<T>(random.within(size));
      return made;
    };
    y = Memory<T>(values(static_cast<size_t>(shape.rows) * columns, 1));
    y_before = y.host;
    x = Memory<T>(values(static_cast<size_t>(shape.rows) * shape.in, 1));
    slot = Memory<int>(shape.slot);
    std::vector<float> scales(shape.slots);
    for (float &one : scales) one = 0.5f + random.within(0.4f);
    scale = Memory<float>(scales);
    int column = 0;
    for (size_t at = 0; at < shape.outs.size(); at++) {
      a.push_back(pool(values(static_cast<size_t>(shape.slots) * shape.max_rank * shape.in, 2 / std::sqrt(float(shape.in))), at, shape.in));
      b.push_back(pool(values(static_cast<size_t>(shape.slots) * shape.max_rank * shape.outs[at], 0.5f), at, shape.outs[at]));
      rank.push_back(Memory<int>(shape.ranks[at]));
      call.pairs[at] = {a[at].device(), b[at].device(), rank[at].device(), shape.outs[at], column};
      column += shape.outs[at] + gap;
    }
    call.type = sizeof(T) == 2 && std::is_same_v<T, half> ? QUIVER_LORA_HALF : QUIVER_LORA_BFLOAT16;
    call.pair_count = static_cast<int>(shape.outs.size());
    call.rows = shape.rows;
    call.in = shape.in;
    call.columns = columns;
    call.slots = shape.slots;
    call.max_rank = shape.max_rank;
    call.y = y.device();
    call.x = x.device();
    call.slot = slot.device();
    call.scale = scale.device();
  }

  // Rows past an adapter's rank are NaN: a kernel that reads them, even to multiply them with zero, shows it.
  Memory<T> pool(std::vector<T> values, size_t pair, int length) {
    for (int at = 0; at < shape.slots; at++) {
      for (int row = std::max(0, shape.ranks[pair][at]); row < shape.max_rank; row++) {
        const size_t begin = (static_cast<size_t>(at) * shape.max_rank + row) * length;
        for (int one = 0; one < length; one++) values[begin + one] = nan_of<T>();
      }
    }
    return Memory<T>(values);
  }

  /** Makes room and computes on `stream`. @returns the code; `text` says why it is not QUIVER_OK */
  int run(std::string &text, cudaStream_t stream = nullptr) {
    char sentence[256] = "";
    size_t plan_bytes = 0, scratch_bytes = 0;
    int code = quiver_lora_sizes(&call, &plan_bytes, &scratch_bytes, sentence, sizeof sentence);
    const Memory<char> plan(std::vector<char>(plan_bytes, '\xff')), scratch(std::vector<char>(scratch_bytes, '\xff'));
    if (code == QUIVER_OK) code = quiver_lora_plan(&call, plan.device(), plan_bytes, stream, sentence, sizeof sentence);
    if (code == QUIVER_OK) {
      code = quiver_lora_apply(&call, plan.device(), plan_bytes, scratch.device(), scratch_bytes, stream, sentence, sizeof sentence);
    }
    if (code == QUIVER_OK && cudaDeviceSynchronize() != cudaSuccess) code = QUIVER_CUDA_ERROR;
    y.download();
    text = sentence;
    return code;
  }

  bool has_adapter(int row, size_t pair) const {
    const int used = shape.slot[row];
    return used >= 0 && used < shape.slots && shape.ranks[pair][used] > 0 && shape.ranks[pair][used] <= shape.max_rank;
  }

  /**
   * Compares y with the exact result. @returns the largest error as a part of what is allowed; infinite where a value that must
   * not change did, or a NaN appeared. Rows for which `skip` says so are left out.
   */
  template <typename Skip>
  double worst_error(Skip skip) const {
    // Half a unit in the last place of y, and, below its normal range, of its smallest step.
    const bool is_half = std::is_same_v<T, half>;
    const double unit = is_half ? std::ldexp(1, -11) : std::ldexp(1, -8), step = is_half ? std::ldexp(1, -25) : 0;
    double worst = 0;
    for (int row = 0; row < shape.rows; row++) {
      if (skip(row)) continue;
      const T *before = y_before.data() + static_cast<size_t>(row) * columns, *after = y.host.data() + static_cast<size_t>(row) * columns;
      std::vector<bool> is_ours(columns, false);
      for (size_t at = 0; at < shape.outs.size(); at++) {
        if (!has_adapter(row, at)) continue;
        const int used = shape.slot[row], rank = shape.ranks[at][used], out = shape.outs[at];
        const double scaled = scale.host[used];
        std::vector<double> sums(out, 0), sizes(out, 0);
        double sizes_of_b = 0;
        for (int r = 0; r < rank; r++) {
          const T *a_row = a[at].host.data() + (static_cast<size_t>(used) * shape.max_rank + r) * shape.in;
          const T *b_row = b[at].host.data() + (static_cast<size_t>(used) * shape.max_rank + r) * out;
          double sum = 0, size = 0;
          for (int i = 0; i < shape.in; i++) {
            const double product = double(to_float(a_row[i])) * to_float(x.host[static_cast<size_t>(row) * shape.in + i]);
            sum += product;
            size += std::fabs(product);
          }
          for (int o = 0; o < out; o++) {
            sums[o] += scaled * sum * to_float(b_row[o]);
            sizes[o] += scaled * size * std::fabs(to_float(b_row[o]));
          }
          sizes_of_b += 0.5;
        }
        const int column = static_cast<int>(call.pairs[at].column);
        for (int o = 0; o < out; o++) {
          const double exact = to_float(before[column + o]) + sums[o];
          const double allowed = unit * std::fabs(exact) + 2e-5 * (sizes[o] + std::fabs(to_float(before[column + o]))) +
                                 step * (1 + sizes_of_b);
          const double error = std::fabs(to_float(after[column + o]) - exact) / allowed;
          worst = error >= 0 ? std::max(worst, error) : std::numeric_limits<double>::infinity();
          is_ours[column + o] = true;
        }
      }
      for (int column = 0; column < columns; column++) {
        if (!is_ours[column] && memcmp(&before[column], &after[column], sizeof(T)) != 0) return std::numeric_limits<double>::infinity();
      }
    }
    return worst;
  }
  double worst_error() const {
    return worst_error([](int) { return false; });
  }
};
