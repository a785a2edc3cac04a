// AMX: server processors of Intel since 2023. Few rows are computed as by AVX-512 with VNNI, whose results are the same.
//
// A tile of 16 rows × 32 inputs times one of 32 inputs × 16 outputs is one instruction. Its 256 sums must be scaled before those of the
// next block are added, which takes longer than the instruction: the next unit's two are under way meanwhile.
#include "product_avx512.h"

#if defined(__x86_64__)
namespace quiver::host {
namespace {

// Tile registers: sums 0, 1; rows 2, 3; weights 4, 5. A tile of fewer rows is computed as one of 16, whose last rows are whatever
// lies there and are not looked at: so that one shape serves all.
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 32, 32, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 8, 8};
};

// How far ahead of their use weights are asked for: longer than memory takes, as a unit takes some 50 ns.
constexpr int64_t kAhead = 6 * kUnitBytes;

constexpr int kSumsOfTile = kTileRows * static_cast<int>(kPanelOutputs);

// The sums of both blocks of a unit.
inline void StartUnit(const uint8_t *weights, const int8_t *values, int64_t height, int32_t *sums) {
  _tile_loadd(4, weights, kGroupBytes);
  _tile_loadd(2, values, kBlockInputs);
  _tile_zero(0);
  _tile_dpbssd(0, 2, 4);
  _tile_stored(0, sums, kGroupBytes);
  _tile_loadd(5, weights + kGroups * kGroupBytes, kGroupBytes);
  _tile_loadd(3, values + height * kBlockInputs, kBlockInputs);
  _tile_zero(1);
  _tile_dpbssd(1, 3, 5);
  _tile_stored(1, sums + kSumsOfTile, kGroupBytes);
}

template <int kHeight>
inline void AddUnit(const uint8_t *weights, const float *scales, const int32_t *sums, __m512 (&total)[kHeight]) {
  for (int block = 0; block < 2; block += 1) {
    const __m512 of_outputs = Avx512Vnni::Scales(weights + 2 * kGroups * kGroupBytes + block * kPanelOutputs * 2);
#pragma GCC unroll 16
    for (int r = 0; r < kHeight; r += 1) {
      const __m512i row = _mm512_load_si512(sums + block * kSumsOfTile + r * kPanelOutputs);
      total[r] = Avx512Vnni::Accumulate(row, scales + block * kHeight + r, of_outputs, total[r]);
    }
  }
}

// What is written at the end, and weights that are read later, are asked for while there is arithmetic to do: rows of y lie far apart, and
// a store that waits for its line holds up those of the tiles behind it.
inline void PrefetchRows(const PanelTask &task, int64_t rows) {
  for (int64_t r = 0; r < rows; r += 1) __builtin_prefetch(task.y + r * task.y_stride, 1);
}
inline void PrefetchUnit(const uint8_t *weights) {
  for (int64_t line = 0; line < kUnitBytes; line += kGroupBytes) _mm_prefetch(reinterpret_cast<const char *>(weights + line), _MM_HINT_T1);
}

template <int kHeight>
void MultiplyTile(const PanelTask &task, int64_t rows) {
  alignas(64) int32_t sums[2][2 * kSumsOfTile];
  __m512 total[kHeight];
  for (int r = 0; r < kHeight; r += 1) total[r] = _mm512_setzero_ps();
  const uint8_t *weights = task.weights;
  const int8_t *values = task.values;
  const float *scales = task.scales;
  PrefetchRows(task, rows);
  if (task.is_first) PrefetchUnit(weights + kAhead - kUnitBytes);
  StartUnit(weights, values, kHeight, sums[0]);
  for (int64_t unit = 0; unit + 1 < task.units; unit += 1) {
    values += 2 * kHeight * kBlockInputs;
    if (task.is_first) PrefetchUnit(weights + kAhead);
    StartUnit(weights + kUnitBytes, values, kHeight, sums[(unit + 1) & 1]);
    AddUnit<kHeight>(weights, scales, sums[unit & 1], total);
    weights += kUnitBytes;
    scales += 2 * kHeight;
  }
  AddUnit<kHeight>(weights, scales, sums[(task.units - 1) & 1], total);
#pragma GCC unroll 16
  for (int r = 0; r < kHeight; r += 1) {
    if (r < rows) Avx512Vnni::Store(task.y + r * task.y_stride, total[r], task.columns);
  }
}

void MultiplyByTiles(const ProductTask &task) {
  const TileShapes shapes;
  _tile_loadconfig(&shapes);
  ForEachPanel(task, [](const PanelTask &panel, int64_t rows) {
    if (rows <= kRowUnit) return MultiplyPanel<Avx512Vnni>(panel, rows);
    if (panel.height == 16) MultiplyTile<16>(panel, rows);
    else if (panel.height == 12) MultiplyTile<12>(panel, rows);
    else MultiplyTile<8>(panel, rows);
  });
  _tile_release();
}

constexpr ProductKernels kKernels = {"amx", Quantize<Avx512Vnni>, MultiplyByTiles};

}  // namespace

const ProductKernels *AmxProduct() { return &kKernels; }

}  // namespace quiver::host
#else
#include "product.h"
const quiver::host::ProductKernels *quiver::host::AmxProduct() { return nullptr; }
#endif
