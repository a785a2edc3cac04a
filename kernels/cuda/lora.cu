// Checks a call, and launches the kernels that compute it. The contract is in lora.h.
#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "lora_decode.cuh"
#include "lora_plan.cuh"
#include "lora_prefill.cuh"
#include "lora_prefill_expand.cuh"

namespace quiver {
namespace {

// Where a sentence for the caller goes.
struct Report {
  char *text;
  size_t capacity;

  int operator()(int code, const char *format, ...) const __attribute__((format(printf, 3, 4))) {
    va_list arguments;
    va_start(arguments, format);
    if (text != nullptr && capacity > 0) vsnprintf(text, capacity, format, arguments);
    va_end(arguments);
    return code;
  }
};

bool IsAligned(const void *pointer, size_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

long long Printed(int64_t value) { return static_cast<long long>(value); }

int CheckRows(const quiver_lora_call &call, const Report &report) {
  if (call.rows < 0 || call.rows > QUIVER_LORA_MAX_ROWS) {
    return report(QUIVER_INVALID_ARGUMENT, "lora: %lld rows; there may be 0 to %d", Printed(call.rows), QUIVER_LORA_MAX_ROWS);
  }
  if (call.slots < 1 || call.slots > QUIVER_LORA_MAX_SLOTS) {
    return report(QUIVER_INVALID_ARGUMENT, "lora: %lld slots; there may be 1 to %d", Printed(call.slots), QUIVER_LORA_MAX_SLOTS);
  }
  return QUIVER_OK;
}

int CheckShapes(const quiver_lora_call &call, const Report &report) {
  if (const int code = CheckRows(call, report)) return code;
  if (call.type != QUIVER_LORA_HALF && call.type != QUIVER_LORA_BFLOAT16) {
    return report(QUIVER_INVALID_ARGUMENT, "lora: type %d is neither half (%d) nor bfloat16 (%d)", call.type, QUIVER_LORA_HALF,
                  QUIVER_LORA_BFLOAT16);
  }
  if (call.pair_count < 1 || call.pair_count > QUIVER_LORA_MAX_PAIRS) {
    return report(QUIVER_INVALID_ARGUMENT, "lora: %d pairs of A and B; there may be 1 to %d", call.pair_count, QUIVER_LORA_MAX_PAIRS);
  }
  if (call.max_rank < 1 || call.max_rank > QUIVER_LORA_MAX_RANK) {
    return report(QUIVER_INVALID_ARGUMENT, "lora: max_rank %lld is not 1 to %d", Printed(call.max_rank), QUIVER_LORA_MAX_RANK);
  }
  constexpr int64_t longest = 1 << 24;
  if (call.in < 8 || call.in > longest || call.in % 8 != 0) {
    return report(QUIVER_INVALID_ARGUMENT, "lora: in %lld is not a positive multiple of 8", Printed(call.in));
  }
  if (call.columns < 8 || call.columns > longest || call.columns % 8 != 0) {
    return report(QUIVER_INVALID_ARGUMENT, "lora: columns %lld is not a positive multiple of 8", Printed(call.columns));
  }
  // Rows of x are found by a number of 16-byte vectors in 32 bits.
  if (call.rows * call.in / 8 > UINT32_MAX) {
    return report(QUIVER_INVALID_ARGUMENT, "lora: %lld rows of %lld values are more than 64 GiB of x", Printed(call.rows),
                  Printed(call.in));
  }
  for (int at = 0; at < call.pair_count; at++) {
    const quiver_lora_pair &pair = call.pairs[at];
    if (pair.out < 8 || pair.out % 8 != 0 || pair.column < 0 || pair.column % 8 != 0) {
      return report(QUIVER_INVALID_ARGUMENT, "lora: out %lld and column %lld of pair %d are not multiples of 8", Printed(pair.out),
                    Printed(pair.column), at);
    }
    if (pair.column > call.columns || pair.out > call.columns - pair.column) {
      return report(QUIVER_INVALID_ARGUMENT, "lora: pair %d ends at column %lld of y, which has %lld", at,
                    Printed(pair.column + pair.out), Printed(call.columns));
    }
    for (int other = 0; other < at; other++) {
      const quiver_lora_pair &before = call.pairs[other];
      if (pair.column < before.column + before.out && before.column < pair.column + pair.out) {
        return report(QUIVER_INVALID_ARGUMENT, "lora: pairs %d and %d share columns of y", other, at);
      }
    }
  }
  return QUIVER_OK;
}

int CheckPointers(const quiver_lora_call &call, const Report &report) {
  const auto check = [&](const void *pointer, size_t bytes, const char *name) {
    if (pointer == nullptr) return report(QUIVER_INVALID_ARGUMENT, "lora: %s is missing", name);
    if (!IsAligned(pointer, bytes)) return report(QUIVER_INVALID_ARGUMENT, "lora: %s is not %zu-byte aligned", name, bytes);
    return static_cast<int>(QUIVER_OK);
  };
  if (const int code = check(call.y, 16, "y")) return code;
  if (const int code = check(call.x, 16, "x")) return code;
  if (const int code = check(call.scale, 4, "scale")) return code;
  for (int at = 0; at < call.pair_count; at++) {
    if (const int code = check(call.pairs[at].a, 16, "A")) return code;
    if (const int code = check(call.pairs[at].b, 16, "B")) return code;
    if (const int code = check(call.pairs[at].rank, 4, "rank")) return code;
  }
  const char *y = static_cast<const char *>(call.y), *x = static_cast<const char *>(call.x);
  if (x < y + call.rows * call.columns * 2 && y < x + call.rows * call.in * 2) {
    return report(QUIVER_INVALID_ARGUMENT, "lora: y overlaps x, which the same kernels read");
  }
  return QUIVER_OK;
}

// How `in` is cut for the prefill kernels: so that some 128 blocks have work, in splits of no fewer than 512 values.
struct Splits {
  int count, values;
};
Splits SplitsOf(const quiver_lora_call &call) {
  constexpr int64_t wanted_blocks = 128, fewest_values = 512, most_splits = 8;
  const int64_t tiles = std::max<int64_t>(1, call.rows / kTileRows);
  const int64_t count = std::clamp<int64_t>(std::min(wanted_blocks / tiles, call.in / fewest_values), 1, most_splits);
  const int64_t steps = (call.in + count * kStep - 1) / (count * kStep);
  return {static_cast<int>((call.in + steps * kStep - 1) / (steps * kStep)), static_cast<int>(steps * kStep)};
}

bool HasPrefill(const quiver_lora_call &call) { return MostTiles(call.rows) > 0; }

size_t ScratchBytes(const quiver_lora_call &call) {
  const size_t splits = HasPrefill(call) ? SplitsOf(call).count : 1;
  return splits * call.rows * call.pair_count * call.max_rank * sizeof(float);
}

template <typename T>
LoraArguments<T> ArgumentsOf(const quiver_lora_call &call, const void *plan, void *scratch) {
  LoraArguments<T> args{};
  const Splits splits = SplitsOf(call);
  args.plan = PlanAt(const_cast<void *>(plan), call.rows, call.slots);
  args.y = static_cast<T *>(call.y);
  args.x = static_cast<const T *>(call.x);
  args.scale = call.scale;
  args.hidden = static_cast<float *>(scratch);
  args.rows = static_cast<int>(call.rows);
  args.in = static_cast<int>(call.in);
  args.columns = static_cast<int>(call.columns);
  args.slots = static_cast<int>(call.slots);
  args.max_rank = static_cast<int>(call.max_rank);
  args.pairs = call.pair_count;
  args.width = call.pair_count * args.max_rank;
  args.splits = splits.count;
  args.split_in = splits.values;
  for (int at = 0; at < call.pair_count; at++) {
    const quiver_lora_pair &pair = call.pairs[at];
    args.pair[at] = {static_cast<const T *>(pair.a), static_cast<const T *>(pair.b), pair.rank, static_cast<int>(pair.out),
                     static_cast<int>(pair.column)};
  }
  return args;
}

int PartsOf(const quiver_lora_call &call, int columns) {
  int parts = 0;
  for (int at = 0; at < call.pair_count; at++) parts += DivideUp(static_cast<int>(call.pairs[at].out), columns);
  return parts;
}

// As many blocks as there can be work for, but no more than fill the device: blocks take work in turns.
dim3 Blocks(int64_t items, int multiprocessors, int for_each) {
  return dim3(static_cast<unsigned>(std::clamp<int64_t>(items, 1, static_cast<int64_t>(multiprocessors) * for_each)));
}

template <typename T>
cudaError_t LaunchDecode(const quiver_lora_call &call, const LoraArguments<T> &args, int multiprocessors, cudaStream_t stream) {
  const int64_t segments = MostSegments(call.rows, call.slots);
  LAUNCH((lora_decode_shrink<T>), Blocks(segments * DivideUp(args.width, kShrinkColumns), multiprocessors, 4), kShrinkThreads,
         DecodeShrinkSharedBytes(), stream, args);
  if (const cudaError_t error = cudaGetLastError()) return error;
  const int parts = PartsOf(call, kExpandColumns);
  LAUNCH((lora_decode_expand<T>), Blocks(segments * parts, multiprocessors, 8), kExpandThreads,
         DecodeExpandSharedBytes(DecodeRowsRoundedUp(call.rows), args.max_rank), stream, args, parts);
  return cudaGetLastError();
}

template <typename T>
cudaError_t LaunchPrefill(const quiver_lora_call &call, const LoraArguments<T> &args, int multiprocessors, cudaStream_t stream) {
  const int64_t tiles = MostTiles(call.rows);
  const size_t shrink_bytes = ShrinkMemory<T>::bytes(ShrinkTileColumns(args.width));
  if (const cudaError_t error = cudaFuncSetAttribute(lora_prefill_shrink<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                     static_cast<int>(shrink_bytes))) {
    return error;
  }
  LAUNCH((lora_prefill_shrink<T>), Blocks(tiles * args.splits * DivideUp(args.width, kShrinkTileColumns), multiprocessors, 4),
         kPrefillThreads, shrink_bytes, stream, args);
  if (const cudaError_t error = cudaGetLastError()) return error;
  // Long parts read `hidden` less often; short ones keep more blocks at work.
  const int64_t short_parts = std::max<int64_t>(1, call.rows / kTileRows) * PartsOf(call, kExpandTileColumns);
  const int column_tiles = static_cast<int>(std::clamp<int64_t>(short_parts / (4 * static_cast<int64_t>(multiprocessors)), 1, 8));
  const int parts = PartsOf(call, column_tiles * kExpandTileColumns);
  LAUNCH((lora_prefill_expand<T>), Blocks(tiles * parts, multiprocessors, 4), kPrefillThreads,
         ExpandMemory<T>::bytes(args.max_rank), stream, args, column_tiles, parts);
  return cudaGetLastError();
}

template <typename T>
cudaError_t LaunchAll(const quiver_lora_call &call, const void *plan, void *scratch, cudaStream_t stream) {
  int device = 0, multiprocessors = 0;
  if (const cudaError_t error = cudaGetDevice(&device)) return error;
  if (const cudaError_t error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device)) return error;
  const LoraArguments<T> args = ArgumentsOf<T>(call, plan, scratch);
  if (const cudaError_t error = LaunchDecode(call, args, multiprocessors, stream)) return error;
  return HasPrefill(call) ? LaunchPrefill(call, args, multiprocessors, stream) : cudaSuccess;
}

int CheckMemory(const void *memory, size_t bytes, size_t needed, const char *name, const Report &report) {
  if (memory == nullptr || !IsAligned(memory, 16)) {
    return report(QUIVER_INVALID_ARGUMENT, "lora: %s is missing or not 16-byte aligned", name);
  }
  if (bytes < needed) return report(QUIVER_INVALID_ARGUMENT, "lora: %s has %zu bytes and needs %zu", name, bytes, needed);
  return QUIVER_OK;
}

}  // namespace
}  // namespace quiver

extern "C" int quiver_lora_sizes(const quiver_lora_call *call, size_t *plan_bytes, size_t *scratch_bytes, char *text,
                                 size_t capacity) {
  if (const int code = quiver::CheckShapes(*call, {text, capacity})) return code;
  *plan_bytes = quiver::PlanBytes(call->rows, call->slots);
  *scratch_bytes = quiver::ScratchBytes(*call);
  return QUIVER_OK;
}

extern "C" int quiver_lora_plan(const quiver_lora_call *call, void *plan, size_t plan_bytes, void *stream, char *text,
                                size_t capacity) {
  const quiver::Report report{text, capacity};
  if (const int code = quiver::CheckRows(*call, report)) return code;
  if (call->rows == 0) return QUIVER_OK;
  if (const int code = quiver::CheckMemory(plan, plan_bytes, quiver::PlanBytes(call->rows, call->slots), "plan", report)) return code;
  if (call->slot == nullptr) return report(QUIVER_INVALID_ARGUMENT, "lora: slot is missing");
  const int rows = static_cast<int>(call->rows), slots = static_cast<int>(call->slots);
  LAUNCH((quiver::lora_plan), 1, quiver::kPlanThreads, quiver::PlanSharedBytes(slots), static_cast<cudaStream_t>(stream),
         quiver::PlanAt(plan, rows, slots), call->slot, rows, slots);
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return QUIVER_OK;
  return report(QUIVER_CUDA_ERROR, "lora: the plan of %d rows was not launched: %s (CUDA error %d)", rows,
                cudaGetErrorString(error), static_cast<int>(error));
}

extern "C" int quiver_lora_apply(const quiver_lora_call *call, const void *plan, size_t plan_bytes, void *scratch,
                                 size_t scratch_bytes, void *stream, char *text, size_t capacity) {
  const quiver::Report report{text, capacity};
  if (const int code = quiver::CheckShapes(*call, report)) return code;
  if (call->rows == 0) return QUIVER_OK;
  if (const int code = quiver::CheckPointers(*call, report)) return code;
  if (const int code = quiver::CheckMemory(plan, plan_bytes, quiver::PlanBytes(call->rows, call->slots), "plan", report)) return code;
  if (const int code = quiver::CheckMemory(scratch, scratch_bytes, quiver::ScratchBytes(*call), "scratch", report)) return code;
  const cudaStream_t on = static_cast<cudaStream_t>(stream);
  const cudaError_t error = call->type == QUIVER_LORA_HALF ? quiver::LaunchAll<half>(*call, plan, scratch, on)
                                                           : quiver::LaunchAll<bfloat16>(*call, plan, scratch, on);
  if (error == cudaSuccess) return QUIVER_OK;
  return report(QUIVER_CUDA_ERROR, "lora: %lld rows were not computed: %s (CUDA error %d)", quiver::Printed(call->rows),
                cudaGetErrorString(error), static_cast<int>(error));
}
