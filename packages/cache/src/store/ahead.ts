/**
 * Works on the items of a sequence, on at most `limit` at once, and gives the results in the order of the items. Who stops
 * reading stops the work: what has begun ends unseen.
 * @throws the first failure in the order of the items
 * @example for await (const entry of ahead(keys, 32, (key) => store.head(key))) …
 */
export async function* ahead<T, R>(
  items: AsyncIterable<T> | Iterable<T>,
  limit: number,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R, void, undefined> {
  const begun: Promise<R>[] = []
  for await (const item of items) {
    const result = work(item)
    // Its failure is seen in its turn, or, behind an earlier one, never.
    result.catch(() => undefined)
    begun.push(result)
    const first = begun.length < limit ? undefined : begun.shift()
    if (first !== undefined) yield await first
  }
  for (const result of begun) yield await result
}
