const signals = ['SIGINT', 'SIGTERM'] as const

/**
 * Hears Ctrl-C and SIGTERM.
 * @param onFirst begins an orderly end
 * @param onSecond ends at once: somebody does not want to wait
 * @returns resolves at the first signal
 */
export function onStopSignals(onFirst: () => void, onSecond: () => void): Promise<void> {
  return new Promise((resolve) => {
    let count = 0
    const hear = () => {
      count++
      if (count > 1) {
        onSecond()
        return
      }
      onFirst()
      resolve()
    }
    for (const signal of signals) process.on(signal, hear)
  })
}
