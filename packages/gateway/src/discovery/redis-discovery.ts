import type { TimerClock } from '../clock.ts'
import type { Discovery } from './discovery.ts'
import type { RedisRegistry } from './redis-registry.ts'

/** Between two looks. A worker that has just registered is found within this time. */
const LOOK_AGAIN_MS = 1_000

/**
 * The workers that are registered in Redis. While it does not answer, those stand that were found last: whether they are there each
 * gateway hears from themselves.
 */
export function redisDiscovery(
  registry: Pick<RedisRegistry, 'list'>,
  { clock, random }: { readonly clock: TimerClock; readonly random: () => number },
): Discovery {
  let isClosed = false
  let stopTimer = () => {}
  return {
    start(onList) {
      const look = async (): Promise<void> => {
        try {
          const entries = await registry.list()
          if (!isClosed) onList(entries.map(({ address }) => address))
        } catch {
          // The connection says once that it is gone and once that it is back.
        }
        // Not all gateways at the same moment.
        if (!isClosed) stopTimer = clock.after(LOOK_AGAIN_MS * (0.75 + random() / 2), () => void look())
      }
      void look()
    },
    close() {
      isClosed = true
      stopTimer()
    },
  }
}
