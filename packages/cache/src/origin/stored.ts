import { type AdapterDigest, ServingError } from '@quiver/protocol'
import { MAX_CONFIG_BYTES, parseAdapterConfig } from '../format/adapter-config.ts'
import { adapterDigest } from '../format/digest.ts'
import type { ObjectStore } from '../store/object-store.ts'
import { storedAdapterKeys } from '../store/stored-adapter.ts'
import type { FoundAdapter, Origin, OriginLimits } from './origin.ts'

/** Registered adapters: in an object store, under their digest. */
export class StoredOrigin implements Origin<AdapterDigest> {
  readonly #store: ObjectStore
  readonly #limits: OriginLimits

  constructor(store: ObjectStore, limits: OriginLimits) {
    this.#store = store
    this.#limits = limits
  }

  /** Without I/O: the digest is the reference. Whether the store has it shows when it is fetched. */
  async resolve(digest: AdapterDigest): Promise<FoundAdapter> {
    return this.at(digest)
  }

  at(digest: AdapterDigest): FoundAdapter {
    return {
      digest,
      provenance: { type: 'store', uri: `sha256:${digest}` },
      chatTemplate: async () => undefined,
      fetch: async (signal) => {
        const keys = storedAdapterKeys(digest)
        const config = await this.#get(keys.config, { digest, maxBytes: MAX_CONFIG_BYTES, signal })
        // Parsed before the weights are asked for: a rank that is too large is told as such, and nothing is downloaded.
        const parsed = parseAdapterConfig(config, this.#limits.maxRank)
        const weights = await this.#get(keys.weights, { digest, maxBytes: this.#limits.maxWeightsBytes, signal })
        const found = await adapterDigest(parsed, weights)
        if (found !== digest) {
          throw new ServingError(
            'source_unavailable',
            `the store's files of adapter ${digest} have the digest ${found}: publish it again`,
          )
        }
        return { config, weights }
      },
    }
  }

  async #get(
    key: string,
    { digest, maxBytes, signal }: { digest: AdapterDigest; maxBytes: number; signal: AbortSignal },
  ): Promise<Uint8Array<ArrayBuffer>> {
    try {
      return (await this.#store.get(key, { maxBytes, signal })).bytes
    } catch (thrown) {
      if (!(thrown instanceof ServingError)) throw thrown
      if (thrown.code === 'not_found') {
        throw new ServingError('adapter_not_found', `adapter ${digest} is not in the store`, { key }, { cause: thrown })
      }
      if (thrown.code === 'too_large') {
        const name = key.slice(key.lastIndexOf('/') + 1)
        throw new ServingError(
          'too_large',
          `${name} of adapter ${digest} has more than ${maxBytes} bytes`,
          { key },
          { cause: thrown },
        )
      }
      throw thrown
    }
  }
}
