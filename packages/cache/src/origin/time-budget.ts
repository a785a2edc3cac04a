import { ServingError, type Timers } from '@quiver/protocol'

/**
 * Runs `work` for at most `budgetMs`, under a signal that ends with the caller's or with the time.
 * @param what is named when the time is over
 * @throws ServingError `source_unavailable` when the time is over, otherwise what `work` throws
 */
export async function withinBudget<T>(
  { budgetMs, timers, signal, what }: { budgetMs: number; timers: Timers; signal: AbortSignal; what: string },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const over = new AbortController()
  const cancel = timers.after(budgetMs, () => over.abort())
  try {
    return await work(AbortSignal.any([signal, over.signal]))
  } catch (error) {
    if (!over.signal.aborted || signal.aborted) throw error
    throw new ServingError(
      'source_unavailable',
      `${what} took longer than ${Math.round(budgetMs / 1000)} s`,
      {},
      { cause: error },
    )
  } finally {
    cancel()
  }
}

/** Time for a file of this size at the slowest rate that is put up with, 64 kB/s, and half a minute to begin. */
export function fileBudgetMs(bytes: number): number {
  return 30_000 + bytes / 64
}
