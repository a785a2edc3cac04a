/** Where a gateway learns which workers there are. */
export interface Discovery {
  /** Tells the addresses that there are now, at once or when they are known, and again whenever they are others. */
  start(onList: (addresses: readonly string[]) => void): void
  close(): void
}

/** The base address of a worker: scheme, host and port, so that one worker has one name. @throws TypeError for what is no URL */
export function workerAddress(text: string): string {
  return new URL(text).origin
}

/** Workers that are named once and for all. */
export function staticDiscovery(addresses: readonly string[]): Discovery {
  return { start: (onList) => onList(addresses.map(workerAddress)), close: () => {} }
}
