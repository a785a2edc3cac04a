import type { Logger } from '@quiver/protocol'
import type { TimerClock } from '../clock.ts'
import type { Discovery } from './discovery.ts'

/** Between two questions. A pod that has just started is found within this time. */
const ASK_AGAIN_MS = 5_000

export interface DnsDeps {
  /** The addresses of a name, as A and AAAA records have them. May reject. */
  readonly resolve: (name: string) => Promise<readonly string[]>
  readonly clock: TimerClock
  readonly log: Logger
}

/**
 * The workers behind one name, such as that of a headless service of Kubernetes: each address is one. An answer that does not come
 * changes nothing, since a name server that is down says nothing of the workers.
 * @param url `dns+http://name:port`
 */
export function dnsDiscovery(url: string, { resolve, clock, log }: DnsDeps): Discovery {
  const { protocol, hostname, port } = new URL(url.replace(/^dns\+/, ''))
  let isClosed = false
  let isFailing = false
  let stopTimer = () => {}
  return {
    start(onList) {
      const ask = async (): Promise<void> => {
        try {
          const hosts = await resolve(hostname)
          if (isClosed) return
          const found = hosts.map((host) => new URL(`${protocol}//${host.includes(':') ? `[${host}]` : host}:${port}`).origin)
          isFailing = false
          onList(found)
        } catch (error) {
          if (!isFailing) log('warn', 'the name of the workers cannot be resolved', { name: hostname, why: String(error) })
          isFailing = true
        }
        if (!isClosed) stopTimer = clock.after(ASK_AGAIN_MS, () => void ask())
      }
      void ask()
    },
    close() {
      isClosed = true
      stopTimer()
    },
  }
}
