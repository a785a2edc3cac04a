import type { Redis } from 'ioredis'
import type { ChangeFeed, ChangeSubscriber } from '../catalogue/change-feed.ts'
import type { RedisConnection } from './redis-connection.ts'

/** Of the form of channels and messages: other versions of Quiver may share the server. */
const FORMAT = 1
const LONGEST_MESSAGE = 256

/**
 * Changes over Redis' publish and subscribe, which forgets what nobody hears. Each time that the subscription begins, also
 * after a lost connection, the subscriber is told of a gap.
 */
export class RedisChangeFeed implements ChangeFeed {
  readonly #redis: RedisConnection
  readonly #channel: string

  /** @param scope tells one store's changes from another's in the same Redis */
  constructor({ redis, scope }: { readonly redis: RedisConnection; readonly scope: string }) {
    this.#redis = redis
    this.#channel = `quiver:${scope}:changes:${FORMAT}`
  }

  async announce(name: string): Promise<void> {
    const { client } = this.#redis
    if (client.status !== 'ready') return
    // Who is not told finds it at the next refresh.
    await client.publish(this.#channel, name).catch(() => undefined)
  }

  subscribe({ onChange, onGap }: ChangeSubscriber): () => void {
    const subscription: Redis = this.#redis.duplicate()
    const begin = async () => {
      try {
        await subscription.subscribe(this.#channel)
        onGap()
      } catch {
        // Not a subscriber although connected: another connection may be.
        subscription.disconnect(true)
      }
    }
    subscription.on('ready', () => void begin())
    subscription.on('message', (channel: string, message: string) => {
      if (channel === this.#channel && message.length <= LONGEST_MESSAGE) void onChange(message)
    })
    // What it fails with comes as an event too; it goes on trying.
    subscription.connect().catch(() => undefined)
    return () => subscription.disconnect()
  }
}
