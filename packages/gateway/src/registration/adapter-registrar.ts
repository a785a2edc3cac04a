/** Registration: from what a publisher names or sends to a version that is served. */
import { maxWeightsBytes } from '@quiver/cache/format'
import type { AdapterSource, FetchedSource, OriginLimits } from '@quiver/cache/origin'
import type { ObjectStore } from '@quiver/cache/store'
import { type AdapterName, ServingError, toServingError, type WorkerInfo } from '@quiver/protocol'
import type { Catalogue } from '../catalogue/catalogue.ts'
import { provenanceSchema } from '../catalogue/provenance.ts'
import { type Publication, type Published, publishAdapter } from '../catalogue/publish.ts'
import type { WorkerSource } from '../worker/worker-source.ts'
import { FailureMemory } from './failure-memory.ts'
import { WorkQueue } from './work-queue.ts'

/** Publications that hold an adapter's bytes in memory at once, and those that wait for their turn. */
const AT_ONCE = 4
const WAITING = 64

/** How a version shall be served, and for whom it is made. */
export interface Wishes extends Pick<Publication, 'name' | 'aliases' | 'expected' | 'pin' | 'metadata' | 'tenant' | 'actor'> {
  /** Which of the served base models it shall fit; the usual one without it. */
  readonly base?: string | undefined
}

/** The files themselves, and where they came from. */
export type Files = Pick<Publication, 'config' | 'weights' | 'chatTemplate' | 'source'>

/** What may be read at most, from the layout of the model that is served. */
export interface UploadLimits extends OriginLimits {
  readonly info: WorkerInfo
}

export interface RegistrarDeps {
  readonly store: ObjectStore
  readonly catalogue: Catalogue
  readonly workers: Pick<WorkerSource, 'info' | 'infoOf' | 'bases'>
  /** Reads what a publisher names; `fetchSource` with the server's own settings. */
  readonly fetchSource: (source: AdapterSource, limits: OriginLimits, signal: AbortSignal) => Promise<FetchedSource>
  readonly now: () => Date
}

export class AdapterRegistrar {
  /** Of each name, why it could not be published lately. */
  readonly failures = new FailureMemory()
  readonly #deps: RegistrarDeps
  readonly #queue = new WorkQueue(AT_ONCE, WAITING)

  constructor(deps: RegistrarDeps) {
    this.#deps = deps
  }

  /**
   * Publishes what a source has now.
   * @throws ServingError what `fetchSource` and `publishAdapter` throw, `not_ready` before a worker has said what it serves,
   * `overloaded` when too many wait
   */
  async register(source: AdapterSource, wishes: Wishes, signal: AbortSignal): Promise<Published> {
    const read = async (limits: OriginLimits) => filesOf(await this.#deps.fetchSource(source, limits, signal))
    return await this.publish(wishes, signal, async (limits) => ({ wishes, files: await read(limits) }))
  }

  /**
   * The same for files that `read` brings, such as an upload. It is called when its turn has come, so that only so many are in memory.
   * @throws ServingError as `register`, and what `read` throws
   */
  async publish(
    { name, base }: { readonly name: AdapterName; readonly base?: string | undefined },
    signal: AbortSignal,
    read: (limits: UploadLimits) => Promise<{ readonly wishes: Wishes; readonly files: Files }>,
  ): Promise<Published> {
    try {
      return await this.#queue.run(signal, async () => {
        const limits = this.#limits(base)
        const { layout, limits: workerLimits } = limits.info
        const { wishes, files } = await read(limits)
        signal.throwIfAborted()
        return await publishAdapter({ ...wishes, ...files, layout, maxRank: workerLimits.maxRank }, this.#deps)
      })
    } catch (thrown) {
      this.failures.note(name, toServingError(thrown), this.#deps.now())
      throw thrown
    }
  }

  #limits(base: string | undefined): UploadLimits {
    const { workers } = this.#deps
    const info = base === undefined ? workers.info : workers.infoOf(base)
    if (info === undefined && base !== undefined && workers.info !== undefined) {
      throw new ServingError(
        'invalid_parameters',
        `\`base\` is none of the models that are served: there are ${workers.bases.join(', ')}`,
      )
    }
    if (info === undefined) throw new ServingError('not_ready', 'The model is still being loaded: what fits it is not known yet')
    const { maxRank } = info.limits
    return { info, maxRank, maxWeightsBytes: maxWeightsBytes(info.layout, maxRank) }
  }
}

function filesOf({ config, weights, chatTemplate, provenance }: FetchedSource): Files {
  const source = provenanceSchema.parse(provenance)
  return { config, weights, source, ...(chatTemplate === undefined ? {} : { chatTemplate }) }
}
