import { onParentGone } from './parent-watch.ts'

const signals = ['SIGINT', 'SIGTERM'] as const

/** `npm start` passes a Ctrl-C on that the terminal has already sent to everyone: what comes so soon is the same wish. */
const SAME_WISH_MS = 500

export interface StopActions {
  /** Begins an orderly end. */
  readonly onFirst: () => void
  /** Ends at once: somebody does not want to wait. */
  readonly onSecond: () => void
  readonly nowMs: () => number
  /** Of this process, now. Where it is given, losing the parent is a wish to stop. */
  readonly parentPid?: () => number
}

/**
 * Hears Ctrl-C, SIGTERM and, if asked to, the end of the parent.
 * @returns resolves at the first of them
 */
export function onStopSignals({ onFirst, onSecond, nowMs, parentPid }: StopActions): Promise<void> {
  return new Promise((resolve) => {
    let firstAtMs: number | undefined
    const hear = () => {
      if (firstAtMs === undefined) {
        firstAtMs = nowMs()
        onFirst()
        resolve()
      } else if (nowMs() - firstAtMs > SAME_WISH_MS) onSecond()
    }
    for (const signal of signals) process.on(signal, hear)
    if (parentPid !== undefined) onParentGone(parentPid, hear)
  })
}
