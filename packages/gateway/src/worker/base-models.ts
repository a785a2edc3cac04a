import type { WorkerInfo } from '@quiver/protocol'
import type { WorkerClient } from './worker-client.ts'

/** The base models that a pool's workers have served. What was said of one stays known while its workers restart. */
export class BaseModels {
  readonly #usualName: string | undefined
  readonly #infos = new Map<string, WorkerInfo>()

  /** @param usual the one of requests that name none; absent: the first that comes */
  constructor(usual: string | undefined) {
    this.#usualName = usual
  }

  /** A worker that fits has come. */
  note(info: WorkerInfo): void {
    this.#infos.set(info.model.id, info)
  }

  get usual(): WorkerInfo | undefined {
    const named = this.#usualName === undefined ? undefined : this.#infos.get(this.#usualName)
    return named ?? this.#infos.values().next().value
  }

  of(base: string): WorkerInfo | undefined {
    return this.#infos.get(base)
  }

  get names(): readonly string[] {
    const usual = this.usual?.model.id
    return usual === undefined ? [] : [usual, ...[...this.#infos.keys()].filter((name) => name !== usual)]
  }

  /** Workers of one base model answer alike: a worker whose model's files or shapes differ from those of the others is none of them. */
  fits({ model, layout }: WorkerInfo, others: readonly WorkerClient[]): boolean {
    const other = others.find(({ info }) => info.model.id === model.id)?.info
    if (other === undefined) return true
    return other.model.sha === model.sha && JSON.stringify(other.layout) === JSON.stringify(layout)
  }
}
