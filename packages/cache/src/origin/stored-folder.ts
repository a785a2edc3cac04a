/** An adapter in a folder of an object store: two objects of exact keys, read under the etags that they were found with. */
import { type AdapterDigest, ServingError, type Timers } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'
import { MAX_CONFIG_BYTES, parseAdapterConfig } from '../format/adapter-config.ts'
import { adapterDigestOf, sha256Hex } from '../format/digest.ts'
import type { AdapterFiles } from '../format/inspect.ts'
import type { ObjectEntry, ObjectStore } from '../store/object-store.ts'
import {
  adapterFileNames,
  checkSizes,
  incomplete,
  MAX_CHAT_TEMPLATE_BYTES,
  otherWeightsNames,
  templateText,
} from './adapter-folder.ts'
import { Handoff } from './handoff.ts'
import type { AdapterEtags, FoundAdapter, OriginLimits, Provenance } from './origin.ts'

/** Digests by the etags of both files; each costs some 400 bytes. */
const DIGESTS_REMEMBERED = 10_000

export interface StoredPlace {
  readonly store: ObjectStore
  /** Without a `/` at its end; empty: the store's root. */
  readonly prefix: string
  /** The place as messages repeat it, quoted; the store's own address where two stores could have the same keys. */
  readonly said: string
  readonly provenance: (etags: AdapterEtags) => Provenance
}

export class StoredFolders {
  readonly #limits: OriginLimits
  readonly #handoff: Handoff
  readonly #digests = new LRUCache<string, AdapterDigest>({ max: DIGESTS_REMEMBERED })

  constructor(limits: OriginLimits, timers: Timers) {
    this.#limits = limits
    this.#handoff = new Handoff(timers)
  }

  /**
   * What is in the folder now. A folder that changes meanwhile is looked at once more.
   * @throws ServingError `adapter_not_found`, `adapter_invalid`, `too_large`, `conflict`, and what the store throws
   */
  async find(place: StoredPlace, signal: AbortSignal): Promise<FoundAdapter> {
    try {
      return await this.#find(place, signal)
    } catch (thrown) {
      if (!isCode(thrown, 'conflict')) throw thrown
    }
    return await this.#find(place, signal)
  }

  async #find(place: StoredPlace, signal: AbortSignal): Promise<FoundAdapter> {
    const { said } = place
    const [config, weights] = await Promise.all([head(place, adapterFileNames.config), head(place, adapterFileNames.weights)])
    if (config === undefined || weights === undefined) throw await whyIncomplete(place, { config, weights })
    checkSizes({ config: config.size, weights: weights.size }, this.#limits, said)
    // The prefix besides, because what is said may be cut.
    const identity = `${said} ${place.prefix} ${config.etag} ${weights.etag}`
    const digest = this.#digests.get(identity) ?? (await this.#hash(place, { config, weights }, signal))
    this.#digests.set(identity, digest)
    return {
      digest,
      provenance: place.provenance({ config: config.etag, weights: weights.etag }),
      fetch: async (fetchSignal) => await this.#fetch(digest, place, { config, weights }, fetchSignal),
      chatTemplate: async (fetchSignal) => await readTemplate(place, fetchSignal),
    }
  }

  async #hash(place: StoredPlace, entries: Entries, signal: AbortSignal): Promise<AdapterDigest> {
    const { files, digest } = await this.#read(place, entries, signal)
    this.#handoff.keep(digest, files)
    return digest
  }

  async #fetch(digest: AdapterDigest, place: StoredPlace, entries: Entries, signal: AbortSignal): Promise<AdapterFiles> {
    const kept = this.#handoff.take(digest)
    if (kept?.weights !== undefined) return { config: kept.config, weights: kept.weights }
    const { files, digest: found } = await this.#read(place, entries, signal)
    if (found === digest) return files
    throw new ServingError(
      'source_unavailable',
      `${place.said} gave other bytes than before under the same etags: they were not used`,
    )
  }

  async #read({ store, prefix, said }: StoredPlace, { config, weights }: Entries, signal: AbortSignal) {
    const read = async ({ key, etag }: ObjectEntry, maxBytes: number) => {
      try {
        return (await store.get(key, { ifMatch: etag, maxBytes, signal })).bytes
      } catch (thrown) {
        if (isCode(thrown, 'conflict') || isCode(thrown, 'not_found')) throw changed(said, thrown)
        throw thrown
      }
    }
    const configBytes = await read({ ...config, key: keyOf(prefix, adapterFileNames.config) }, MAX_CONFIG_BYTES)
    // Parsed first: a rank that is too large is told as such, and the weights are not read.
    const parsed = parseAdapterConfig(configBytes, this.#limits.maxRank)
    const weightsBytes = await read({ ...weights, key: keyOf(prefix, adapterFileNames.weights) }, this.#limits.maxWeightsBytes)
    const digest = adapterDigestOf(parsed, await sha256Hex(weightsBytes))
    return { files: { config: configBytes, weights: weightsBytes }, digest }
  }
}

interface Entries {
  readonly config: ObjectEntry
  readonly weights: ObjectEntry
}

function keyOf(prefix: string, name: string): string {
  return prefix === '' ? name : `${prefix}/${name}`
}

async function head({ store, prefix }: StoredPlace, name: string): Promise<ObjectEntry | undefined> {
  try {
    return await store.head(keyOf(prefix, name))
  } catch (thrown) {
    if (isCode(thrown, 'not_found')) return undefined
    throw thrown
  }
}

async function whyIncomplete(
  place: StoredPlace,
  { config, weights }: { config: ObjectEntry | undefined; weights: ObjectEntry | undefined },
): Promise<ServingError> {
  // Two more questions by exact key, and no listing, however large the bucket.
  const [pickle, shards] = await Promise.all([head(place, otherWeightsNames.pickle), head(place, otherWeightsNames.shards)])
  return incomplete(
    {
      config: config !== undefined,
      weights: weights !== undefined,
      pickle: weights === undefined && pickle !== undefined,
      shards: weights === undefined && shards !== undefined,
    },
    place.said,
  )
}

async function readTemplate({ store, prefix, said }: StoredPlace, signal: AbortSignal): Promise<string | undefined> {
  const key = keyOf(prefix, adapterFileNames.chatTemplate)
  try {
    return templateText((await store.get(key, { maxBytes: MAX_CHAT_TEMPLATE_BYTES, signal })).bytes, said)
  } catch (thrown) {
    if (isCode(thrown, 'not_found')) return undefined
    if (isCode(thrown, 'too_large')) {
      throw new ServingError(
        'too_large',
        `${adapterFileNames.chatTemplate} at ${said} has more than ${MAX_CHAT_TEMPLATE_BYTES} bytes`,
        {},
        { cause: thrown },
      )
    }
    throw thrown
  }
}

function changed(said: string, cause: unknown): ServingError {
  return new ServingError('conflict', `the adapter at ${said} was changed while it was being read: ask again`, {}, { cause })
}

function isCode(thrown: unknown, code: ServingError['code']): boolean {
  return thrown instanceof ServingError && thrown.code === code
}
