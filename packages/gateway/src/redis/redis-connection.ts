/**
 * The way to Redis. Nothing that requests need waits here: a command that is not answered within half a second fails, and one
 * that is given while there is no connection fails at once, since nothing queues for a connection. Lost connections come back by
 * themselves, at random moments, so that many gateways do not all come at once.
 */
import type { Logger } from '@quiver/protocol'
import { Redis, type RedisOptions } from 'ioredis'
import type { TimerClock } from '../clock.ts'

/** A command that is not answered by then has failed. */
const COMMAND_MS = 500
const CONNECT_MS = 2000
const FIRST_PAUSE_MS = 50
const LONGEST_PAUSE_MS = 10_000

export interface RedisDeps {
  readonly log: Logger
  /** 0 … 1, as `Math.random`. */
  readonly random: () => number
  readonly clock: TimerClock
  /** What is so while it cannot be reached, for the log. */
  readonly without?: string
}

/** A client and what is known of its connection; one line in the log whenever that changes. */
export interface RedisConnection {
  readonly client: Redis
  /** Whether commands are taken, now or within this many milliseconds. The first call begins to connect. */
  isReadyWithin(patienceMs: number): Promise<boolean>
  /**
   * Another connection to the same server, such as for a subscription, to be connected by its user. Ends with this one.
   * @param options what shall be otherwise than here
   */
  duplicate(options?: Partial<RedisOptions>): Redis
  close(): Promise<void>
}

/**
 * Connects when it is first asked whether it is ready.
 * @param url `redis://[user:password@]host[:port][/database]`, or `rediss://`
 * @example const redis = connectRedis('redis://127.0.0.1:6379', { log, random: Math.random, clock })
 */
export function connectRedis(
  url: string,
  { log, random, clock, without = 'the catalogue goes on from the store' }: RedisDeps,
): RedisConnection {
  const client = new Redis(url, {
    commandTimeout: COMMAND_MS,
    connectTimeout: CONNECT_MS,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 1,
    autoResubscribe: false,
    lazyConnect: true,
    retryStrategy: (attempt) => reconnectPauseMs(attempt, random()),
    // What was the primary is one no more: the name or the balancer in front leads to the new one.
    reconnectOnError: (error) => (isFromReplica(error) ? 1 : false),
  })
  let state: 'unknown' | 'there' | 'gone' = 'unknown'
  let reason = 'the connection was closed'
  client.on('error', (error: Error) => {
    reason = error.message
  })
  client.on('ready', () => {
    if (state === 'gone') log('info', 'Redis can be reached again')
    state = 'there'
  })
  client.on('close', () => {
    if (state !== 'gone') log('warn', `Redis cannot be reached: ${without}`, { reason })
    state = 'gone'
  })
  const others: Redis[] = []
  return {
    client,
    async isReadyWithin(patienceMs) {
      if (client.status === 'ready') return true
      // What it fails with comes as an event too; it goes on trying.
      if (client.status === 'wait') client.connect().catch(() => undefined)
      const answer = Promise.withResolvers<boolean>()
      const stop = clock.after(patienceMs, () => answer.resolve(false))
      const onReady = () => answer.resolve(true)
      client.once('ready', onReady)
      return await answer.promise.finally(() => {
        stop()
        client.off('ready', onReady)
      })
    },
    duplicate(options = {}) {
      const other = client.duplicate(options)
      // The first connection tells of it.
      other.on('error', () => undefined)
      others.push(other)
      return other
    },
    async close() {
      state = 'gone'
      for (const one of [client, ...others]) one.disconnect()
    },
  }
}

/**
 * A random pause that grows with every attempt in vain: anywhere up to a bound that doubles, at most ten seconds.
 * @param attempt 1, 2, 3…
 * @param random 0 … 1
 */
export function reconnectPauseMs(attempt: number, random: number): number {
  const bound = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(attempt, 20))
  return Math.round(FIRST_PAUSE_MS + random * (bound - FIRST_PAUSE_MS))
}

function isFromReplica({ message }: Error): boolean {
  return message.startsWith('READONLY')
}
