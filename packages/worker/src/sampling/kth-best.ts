/**
 * The `k`-th highest of `values`, in one scan: a min-heap holds the best so far, and once it is filled nearly every value is
 * below its least and costs one comparison.
 * @param heap work space for `k` values
 * @returns -Infinity when there are fewer than `k` values above it
 */
export function kthBest(values: Float32Array, k: number, heap: Float32Array): number {
  let size = 0
  let least = Number.NEGATIVE_INFINITY
  for (let id = 0; id < values.length; id++) {
    const value = values[id] ?? Number.NaN
    if (!(value > least)) continue
    if (size < k) {
      rise(heap, size++, value)
    } else {
      sink(heap, size, value)
    }
    if (size === k) least = heap[0] ?? least
  }
  return least
}

function rise(heap: Float32Array, hole: number, value: number): void {
  let at = hole
  while (at > 0) {
    const parent = (at - 1) >> 1
    const above = heap[parent] ?? 0
    if (above <= value) break
    heap[at] = above
    at = parent
  }
  heap[at] = value
}

/** Puts `value` in the place of the least. */
function sink(heap: Float32Array, size: number, value: number): void {
  let at = 0
  for (;;) {
    let child = 2 * at + 1
    if (child >= size) break
    if (child + 1 < size && (heap[child + 1] ?? 0) < (heap[child] ?? 0)) child++
    const below = heap[child] ?? 0
    if (below >= value) break
    heap[at] = below
    at = child
  }
  heap[at] = value
}
