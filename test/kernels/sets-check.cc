// Compares every instruction set of the processor it runs on with the plain C++ of the same kernels, on random inputs: what a processor that
// is only emulated can be asked without Node and ONNX Runtime.
//
//   sets-check SEED     prints one line for each kernel and set, ends with 1 when one is wrong
//
// Products have one order of sums and must agree to the bit. The other kernels add up in the order of their vectors: they may differ by
// kTolerance of the largest value.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "../../kernels/host/attention_plan.h"
#include "../../kernels/host/cpu_features.h"
#include "../../kernels/host/plan.h"
#include "../../kernels/host/product_plan.h"
#include "../../kernels/host/rows_plan.h"

namespace quiver::host {
namespace {

constexpr double kTolerance = 2e-5;
constexpr const char *kSets[] = {"avx512", "avx2", "neon"};
constexpr const char *kProductSets[] = {"amx", "avx512vnni", "avxvnni", "avx2", "neondot", "neon"};

class Serial final : public Parallel {
 public:
  void For(size_t count, void (*body)(void *, size_t), void *data) override {
    for (size_t i = 0; i < count; i += 1) body(data, i);
  }
};

using Floats = std::vector<float>;

Floats Random(std::mt19937 &random, size_t count, float size) {
  std::uniform_real_distribution<float> draw(-size, size);
  Floats values(count);
  for (float &value : values) value = draw(random);
  return values;
}

// float16 of about −1 … 1.
std::vector<uint16_t> RandomHalves(std::mt19937 &random, size_t count) {
  std::vector<uint16_t> values(count);
  for (uint16_t &value : values) value = static_cast<uint16_t>((random() & 0x83ff) | (10 + random() % 5) << 10);
  return values;
}

double Difference(const Floats &left, const Floats &right) {
  double most = 0, largest = 1e-30;
  for (size_t i = 0; i < left.size(); i += 1) {
    const double difference = std::abs(static_cast<double>(left[i]) - right[i]);
    most = std::isnan(difference) ? INFINITY : std::max(most, difference);
    largest = std::max(largest, std::abs(static_cast<double>(right[i])));
  }
  return most / largest;
}

bool is_right = true;

void Report(const char *kernel, const char *set, double worst, double allowed) {
  const bool agrees = worst <= allowed;
  is_right = is_right && agrees;
  std::printf("%s %s by %s: %.1e\n", agrees ? "right" : "WRONG", kernel, set, worst);
}

Floats Multiply(const ProductKernels &kernels, const Floats &x, const std::vector<uint8_t> &weights, int64_t rows, int64_t in, int64_t out) {
  Serial serial;
  Floats y(static_cast<size_t>(rows * out));
  ProductCall call;
  call.rows = rows, call.in = in, call.out = out;
  call.x = x.data(), call.weights = weights.data(), call.y = y.data();
  RunProduct(call, kernels, 1, serial);
  return y;
}

void CheckProducts(std::mt19937 &random) {
  for (const char *set : kProductSets) {
    const ProductKernels *kernels = ChooseProduct(set);
    if (kernels == nullptr) continue;
    double worst = 0;
    for (const int64_t in : {7, 64, 96, 600}) {
      for (const int64_t rows : {1, 3, 5, 16, 33}) {
        const int64_t out = 49;
        std::vector<uint8_t> weights(static_cast<size_t>(PanelCount(out) * UnitCount(in) * kUnitBytes));
        for (size_t i = 0; i < weights.size(); i += 1) {
          const size_t at = i % kUnitBytes;
          // Integers of −127 … 127, then scales of about 0.01: 0x3c.. as bfloat16.
          weights[i] = at < kUnitInputs * kPanelOutputs ? static_cast<uint8_t>(static_cast<int>(random() % 255) - 127)
                                                        : (at % 2 == 1 ? 0x3c : static_cast<uint8_t>(random()));
        }
        const Floats x = Random(random, static_cast<size_t>(rows * in), 3);
        const Floats y = Multiply(*kernels, x, weights, rows, in, out), plain = Multiply(*ScalarProduct(), x, weights, rows, in, out);
        if (std::memcmp(y.data(), plain.data(), y.size() * sizeof(float)) != 0) worst = std::max(worst, Difference(y, plain) + 1e-30);
      }
    }
    Report("products", set, worst, 0);
  }
}

struct LoraInput {
  int64_t rows, in, out;
  Floats x, y;
  std::vector<uint16_t> a, b;
  std::vector<int32_t> slot;
};

Floats Adapt(const HostKernels &kernels, const LoraInput &input, int32_t rank) {
  Serial serial;
  Floats y = input.y;
  const std::vector<int32_t> ranks(4, rank);
  const Floats scales(4, 0.5f);
  LoraCall call;
  call.rows = input.rows, call.in = input.in, call.columns = input.out, call.slots = 4, call.max_rank = 24;
  call.weights = Element::kF16;
  call.x = input.x.data(), call.y = y.data(), call.slot = input.slot.data(), call.scale = scales.data();
  call.pair_count = 1;
  call.pairs[0].a = input.a.data(), call.pairs[0].b = input.b.data(), call.pairs[0].rank = ranks.data(), call.pairs[0].out = input.out;
  RunLora(call, kernels, 1, serial);
  return y;
}

double CompareAdapters(const HostKernels &kernels, std::mt19937 &random) {
  double worst = 0;
  for (const int64_t rows : {1, 5, 9, 40}) {
    for (const int32_t rank : {1, 8, 23}) {
      LoraInput input = {rows, 100, 147, {}, {}, {}, {}, {}};
      input.x = Random(random, static_cast<size_t>(rows * input.in), 1);
      input.y = Random(random, static_cast<size_t>(rows * input.out), 1);
      input.a = RandomHalves(random, static_cast<size_t>(4 * 24 * input.in));
      input.b = RandomHalves(random, static_cast<size_t>(4 * 24 * input.out));
      for (int64_t row = 0; row < rows; row += 1) input.slot.push_back(static_cast<int32_t>(random() % 5) - 1);
      worst = std::max(worst, Difference(Adapt(kernels, input, rank), Adapt(*ScalarKernels(), input, rank)));
    }
  }
  return worst;
}

struct AttentionInput {
  int64_t dim, past, rows;
  Floats qkv, cos, sin;
  std::vector<uint16_t> keys, values;
};

// One sequence with a past; three heads read each of two kv heads.
Floats Attend(const HostKernels &kernels, const AttentionInput &input) {
  Serial serial;
  std::vector<uint16_t> keys = input.keys, values = input.values;
  Floats out(static_cast<size_t>(input.rows * 6 * input.dim));
  std::vector<int32_t> cache_row(static_cast<size_t>(input.rows), 0), position;
  for (int64_t row = 0; row < input.rows; row += 1) position.push_back(static_cast<int32_t>(input.past + row));
  AttentionCall call;
  call.rows = input.rows, call.heads = 6, call.kv_heads = 2, call.dim = input.dim, call.cache_rows = 1, call.capacity = 320;
  call.cache = Element::kF16;
  call.qkv = input.qkv.data(), call.keys = keys.data(), call.values = values.data();
  call.cache_row = cache_row.data(), call.position = position.data(), call.cos = input.cos.data(), call.sin = input.sin.data();
  call.out = out.data();
  RunAttention(call, kernels.attention, 1, serial);
  return out;
}

double CompareAttention(const HostKernels &kernels, std::mt19937 &random) {
  double worst = 0;
  for (const int64_t dim : {8, 40, 64}) {
    for (const int64_t rows : {1, 3, 20}) {
      for (const int64_t past : {0, 130, 290}) {
        AttentionInput input = {dim, past, rows, {}, {}, {}, {}, {}};
        input.qkv = Random(random, static_cast<size_t>(rows * 10 * dim), 2);
        input.cos = Random(random, static_cast<size_t>(320 * dim / 2), 1);
        input.sin = Random(random, static_cast<size_t>(320 * dim / 2), 1);
        input.keys = RandomHalves(random, static_cast<size_t>(2 * 320 * dim));
        input.values = RandomHalves(random, static_cast<size_t>(2 * 320 * dim));
        worst = std::max(worst, Difference(Attend(kernels, input), Attend(*ScalarKernels(), input)));
      }
    }
  }
  return worst;
}

double CompareRows(const HostKernels &kernels, std::mt19937 &random) {
  double worst = 0;
  Serial serial;
  for (const int64_t features : {1, 5, 16, 39, 576}) {
    const int64_t rows = 7;
    const size_t count = static_cast<size_t>(rows * features);
    const Floats residual = Random(random, count, 4), added = Random(random, count, 1), x = Random(random, 2 * count, 20);
    const Floats weight = Random(random, static_cast<size_t>(features), 2);
    Floats normed[2] = {Floats(count), Floats(count)}, sum[2] = {Floats(count), Floats(count)}, gated[2] = {Floats(count), Floats(count)};
    for (int i = 0; i < 2; i += 1) {
      const RowKernels &own = i == 0 ? kernels.rows : ScalarKernels()->rows;
      RunNorm({rows, features, 1e-5f, residual.data(), added.data(), weight.data(), normed[i].data(), sum[i].data()}, own, 1, serial);
      RunGate({rows, features, x.data(), gated[i].data()}, own, 1, serial);
    }
    worst = std::max({worst, Difference(normed[0], normed[1]), Difference(sum[0], sum[1]), Difference(gated[0], gated[1])});
  }
  return worst;
}

}  // namespace
}  // namespace quiver::host

int main(int count, char **words) {
  using namespace quiver::host;
  std::mt19937 random(count > 1 ? static_cast<unsigned>(std::atol(words[1])) : 1);
  CheckProducts(random);
  for (const char *set : kSets) {
    const HostKernels *kernels = ChooseKernels(set);
    if (kernels == nullptr) continue;
    Report("adapters", set, CompareAdapters(*kernels, random), kTolerance);
    Report("attention", set, CompareAttention(*kernels, random), kTolerance);
    Report("norms and gates", set, CompareRows(*kernels, random), kTolerance);
  }
  return is_right ? 0 : 1;
}
