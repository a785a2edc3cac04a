/**
 * Adapters in repositories of the Hugging Face hub. A branch or tag is pinned to its commit, and the digest follows from the config
 * and the sha256 that the hub lists for the weights, so that weights which a tier holds are not downloaded again.
 *
 * Whoever names a repository must be allowed to read it *now*: what was found is remembered for a minute under the very token it was
 * found with, and finding it always reads the config with that token, because the hub lists a gated repository's files to
 * everybody but gives their content only to those who accepted its terms. The tiers hold content by digest and ask nobody.
 */
import { createHash } from 'node:crypto'
import { type AdapterDigest, type Clock, hubTokenSchema, ServingError, type Timers } from '@quiver/protocol'
import { LRUCache } from 'lru-cache'
import { parseAdapterConfig } from '../format/adapter-config.ts'
import { adapterDigestOf } from '../format/digest.ts'
import { readHubFile } from '../hub/hub-bytes.ts'
import { HubClient, type HubConfig, type HubFile } from '../hub/hub-client.ts'
import { type HubReference, parseHubReference } from '../hub/hub-reference.ts'
import { withRetries } from '../hub/retries.ts'
import {
  adapterFileNames,
  checkSizes,
  incomplete,
  MAX_CHAT_TEMPLATE_BYTES,
  otherWeightsNames,
  templateText,
} from './adapter-folder.ts'
import { Handoff } from './handoff.ts'
import { hubFailure } from './hub-failure.ts'
import { shown } from './jail.ts'
import type { FoundAdapter, Origin, OriginLimits } from './origin.ts'
import { ResolutionMemory } from './resolution-memory.ts'
import { fileBudgetMs, withinBudget } from './time-budget.ts'

/** How long a token that could read an adapter is believed to still be able to, and a branch to stay where it is. */
const BELIEVED_MS = 60_000
/** For finding out what a reference means, without the content of weights. */
const FIND_BUDGET_MS = 30_000
/** Of weights that the hub keeps without a sha256; each costs some 150 bytes. */
const SUMS_REMEMBERED = 10_000

export interface HubOriginDeps {
  readonly fetch: typeof fetch
  readonly timers: Timers
  readonly clock: Clock
}

/** A repository as a request names it. */
export interface HubAdapterReference {
  /** `org/name` */
  readonly id: string
  /** Branch, tag or commit; absent: `main`. */
  readonly revision?: string | undefined
  /** Absent: the server's own, where it has one. Never part of a message, a log line or a key. */
  readonly token?: string | undefined
}

/** One repository at one commit, and with whose token it is read. */
interface Found {
  readonly reference: HubReference
  readonly commit: string
  readonly config: HubFile
  readonly weights: HubFile
  readonly template: HubFile | undefined
  readonly token: string | undefined
}

export class HubOrigin implements Origin<HubAdapterReference> {
  readonly #hub: HubConfig
  readonly #limits: OriginLimits
  readonly #deps: HubOriginDeps
  readonly #memory: ResolutionMemory<FoundAdapter>
  readonly #handoff: Handoff
  /** sha256 of weights by what git calls them, where the hub lists only that. */
  readonly #sums = new LRUCache<string, string>({ max: SUMS_REMEMBERED })

  constructor(hub: HubConfig, limits: OriginLimits, deps: HubOriginDeps) {
    this.#hub = hub
    this.#limits = limits
    this.#deps = deps
    this.#memory = new ResolutionMemory(deps.clock, BELIEVED_MS)
    this.#handoff = new Handoff(deps.timers)
  }

  /** @throws ServingError `invalid_request` for what is no hub id, and as `Origin` says */
  async resolve({ id, revision, token = this.#hub.token }: HubAdapterReference): Promise<FoundAdapter> {
    // Told here and not by the header it would break: that error would repeat it.
    if (token !== undefined && !hubTokenSchema.safeParse(token).success) {
      throw new ServingError(
        'invalid_request',
        'the token for the hub must be 1 to 512 printable ASCII characters without spaces',
      )
    }
    const reference = parseHubReference(revision === undefined ? id : `${id}@${revision}`)
    if (reference === undefined) {
      throw new ServingError(
        'invalid_request',
        `${shown(id)} is not the id of an adapter on the hub: write org/name or org/name@revision`,
      )
    }
    const key = `${reference.repo}@${reference.revision} ${token === undefined ? '' : createHash('sha256').update(token).digest('hex')}`
    return await this.#memory.get(key, () => this.#resolve(reference, token))
  }

  async #resolve(reference: HubReference, token: string | undefined): Promise<FoundAdapter> {
    const said = shown(`${reference.repo}@${reference.revision}`)
    const never = new AbortController().signal
    const { found, config } = await this.#run(said, FIND_BUDGET_MS, { token, signal: never }, async (client, signal) => {
      const place = await this.#find(reference, token, client, signal)
      // With this very token: that it may read the content, and not only the list of files, is what is found out here.
      const { bytes } = await readHubFile(client, placeOf(place), place.config, { ...this.#deps, signal })
      return { found: place, config: bytes }
    })
    const parsed = parseAdapterConfig(config, this.#limits.maxRank)
    const weights = await this.#weightsSum(found, said)
    const digest = adapterDigestOf(parsed, weights.sha256)
    this.#handoff.keep(digest, { config, ...(weights.bytes === undefined ? {} : { weights: weights.bytes }) })
    return {
      digest,
      provenance: { type: 'hub', id: reference.repo, revision: found.commit, asked: reference.revision },
      fetch: (signal) => this.#fetch(digest, found, said, signal),
      chatTemplate: (signal) => this.#chatTemplate(found, said, signal),
    }
  }

  async #find(reference: HubReference, token: string | undefined, client: HubClient, signal: AbortSignal): Promise<Found> {
    const retry = { timers: this.#deps.timers, signal }
    const said = shown(reference.repo)
    const commit = await withRetries(retry, () => client.resolveCommit(reference))
    const names = [...Object.values(adapterFileNames), ...Object.values(otherWeightsNames)]
    const files = await withRetries(retry, () => client.findFiles(reference.repo, commit, names))
    const named = (name: string) => files.find(({ path }) => path === name)
    const [config, weights] = [named(adapterFileNames.config), named(adapterFileNames.weights)]
    if (config === undefined || weights === undefined) {
      const [pickle, shards] = [otherWeightsNames.pickle, otherWeightsNames.shards].map((name) => named(name) !== undefined)
      throw incomplete(
        { config: config !== undefined, weights: weights !== undefined, pickle: pickle === true, shards: shards === true },
        said,
      )
    }
    checkSizes({ config: config.bytes, weights: weights.bytes }, this.#limits, said)
    return { reference, commit, config, weights, template: named(adapterFileNames.chatTemplate), token }
  }

  /** From the hub's list where it says, otherwise from the content. */
  async #weightsSum(found: Found, said: string): Promise<{ sha256: string; bytes?: Uint8Array<ArrayBuffer> }> {
    const { digest } = found.weights
    const known = digest.kind === 'sha256' ? digest.hex : this.#sums.get(digest.hex)
    if (known !== undefined) return { sha256: known }
    const read = await this.#read(found, found.weights, said, new AbortController().signal)
    this.#sums.set(digest.hex, read.sha256)
    return read
  }

  async #fetch(digest: AdapterDigest, found: Found, said: string, signal: AbortSignal) {
    const kept = this.#handoff.take(digest)
    const config = kept?.config ?? (await this.#read(found, found.config, said, signal)).bytes
    if (kept?.weights !== undefined) return { config, weights: kept.weights }
    const weights = await this.#read(found, found.weights, said, signal)
    // The config of a commit does not change, but what a mirror answers might.
    if (adapterDigestOf(parseAdapterConfig(config, this.#limits.maxRank), weights.sha256) === digest) {
      return { config, weights: weights.bytes }
    }
    throw new ServingError('source_unavailable', `the hub gave other files of ${said} than before: they were not used`)
  }

  async #chatTemplate(found: Found, said: string, signal: AbortSignal): Promise<string | undefined> {
    const { template } = found
    if (template === undefined) return undefined
    if (template.bytes > MAX_CHAT_TEMPLATE_BYTES) {
      throw new ServingError(
        'too_large',
        `${template.path} at ${said} has ${template.bytes} bytes; at most ${MAX_CHAT_TEMPLATE_BYTES} are allowed`,
      )
    }
    return templateText((await this.#read(found, template, said, signal)).bytes, said)
  }

  async #read(found: Found, file: HubFile, said: string, signal: AbortSignal) {
    return await this.#run(said, fileBudgetMs(file.bytes), { token: found.token, signal }, (client, inTime) =>
      readHubFile(client, placeOf(found), file, { ...this.#deps, signal: inTime }),
    )
  }

  /** Gives `work` a client that acts for the one who asked, for a bounded time, and says failures in an adapter's words. */
  async #run<T>(
    said: string,
    budgetMs: number,
    { token, signal }: { token: string | undefined; signal: AbortSignal },
    work: (client: HubClient, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { endpoint } = this.#hub
    const config = { ...(endpoint === undefined ? {} : { endpoint }), ...(token === undefined ? {} : { token }) }
    try {
      return await withinBudget(
        { budgetMs, timers: this.#deps.timers, signal, what: `reading ${said} from the hub` },
        async (inTime) => await work(new HubClient(config, { fetch: this.#deps.fetch, signal: inTime }), inTime),
      )
    } catch (error) {
      throw hubFailure(error, said)
    }
  }
}

function placeOf({ reference, commit }: Found) {
  return { repo: reference.repo, commit }
}
