/**
 * Workers in Redis: one key for each, which expires unless its worker renews it, and a set of all addresses. Each start of a worker
 * takes a fencing number; of two processes at one address the later start wins, and the earlier one is told so when it comes back.
 */
import { type Logger, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import type { RedisConnection } from '../redis/redis-connection.ts'
import { workerAddress } from './discovery.ts'

/** Of the form of keys and values: other versions of Quiver may share the server. */
const FORMAT = 1
const INDEX = `quiver:workers:${FORMAT}`
const FENCE = `quiver:workers:${FORMAT}:fence`
/** One that does not renew its entry for this long is not there, or stands still. */
export const REGISTRATION_MS = 10_000

const keyOf = (address: string) => `quiver:workers:${FORMAT}:at:${address}`

const entrySchema = z.object({
  address: z.url(),
  /** The base model. */
  base: z.string(),
  /** Of this start of the worker's process. */
  epoch: z.string(),
  fence: z.number(),
})
export type RegistryEntry = z.infer<typeof entrySchema>

/**
 * KEYS: counter. Returns a number above all that were given before. After FLUSHALL the counter is gone; that it also is at least the
 * server's time in microseconds keeps later starts above earlier ones all the same.
 */
const TAKE_FENCE = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local fence = redis.call('INCR', KEYS[1])
if fence < now then
  fence = now
  redis.call('SET', KEYS[1], string.format('%d', fence))
end
return fence`

/** KEYS: entry, index. ARGV: fence, entry as JSON, time to live in ms, address. Returns 1, or 0 when a later start has the address. */
const REGISTER = `
local found = redis.call('GET', KEYS[1])
if found then
  local isJson, entry = pcall(cjson.decode, found)
  if isJson and type(entry) == 'table' and (tonumber(entry.fence) or 0) > tonumber(ARGV[1]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('SADD', KEYS[2], ARGV[4])
return 1`

/** KEYS: entry, index. ARGV: fence, address. Takes back only what is one's own. */
const UNREGISTER = `
local found = redis.call('GET', KEYS[1])
if not found then return 0 end
local isJson, entry = pcall(cjson.decode, found)
if not isJson or type(entry) ~= 'table' or tonumber(entry.fence) ~= tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[2])
return 1`

export class RedisRegistry {
  readonly #redis: RedisConnection
  readonly #log: Logger

  constructor({ redis, log }: { readonly redis: RedisConnection; readonly log: Logger }) {
    this.#redis = redis
    this.#log = log
  }

  /** A number for one start of a worker. @throws when Redis does not answer */
  async takeFence(): Promise<number> {
    return Number(await this.#redis.client.eval(TAKE_FENCE, 1, FENCE))
  }

  /** Enters a worker, or renews its entry. @returns false: a later start has its address. @throws when Redis does not answer */
  async register(entry: RegistryEntry): Promise<boolean> {
    const { address, fence } = entry
    const values = [fence, JSON.stringify(entry), REGISTRATION_MS, address]
    return (await this.#redis.client.eval(REGISTER, 2, keyOf(address), INDEX, ...values)) === 1
  }

  /** @throws when Redis does not answer */
  async unregister({ address, fence }: RegistryEntry): Promise<void> {
    await this.#redis.client.eval(UNREGISTER, 2, keyOf(address), INDEX, fence, address)
  }

  /** Everybody whose entry is in force. What cannot be read is left out and logged. @throws when Redis does not answer */
  async list(): Promise<readonly RegistryEntry[]> {
    const { client } = this.#redis
    const addresses = await client.smembers(INDEX)
    if (addresses.length === 0) return []
    const texts = await client.mget(addresses.map(keyOf))
    const expired = addresses.filter((_, index) => texts[index] === null)
    if (expired.length > 0) await client.srem(INDEX, ...expired)
    return addresses.flatMap((address, index) => this.#read(address, texts[index] ?? undefined) ?? [])
  }

  #read(address: string, text: string | undefined): RegistryEntry | undefined {
    if (text === undefined) return undefined
    try {
      const entry = entrySchema.parse(JSON.parse(text))
      if (workerAddress(entry.address) === address) return entry
      throw new ServingError('invalid_request', 'it names another address')
    } catch (error) {
      const why = error instanceof Error ? error.message.slice(0, 200) : String(error)
      this.#log('warn', 'a worker in Redis cannot be read and is left out', { address: address.slice(0, 200), why })
      return undefined
    }
  }
}
