/** `GET /v1/models`: the base model and every adapter. */
import { ServingError, type WorkerInfo } from '@quiver/protocol'
import type { CatalogueView } from '../../catalogue/catalogue.ts'
import { LongList } from '../json-answer.ts'

export interface ModelCard {
  readonly id: string
  readonly object: 'model'
  /** Seconds since 1970: when the adapter's version was published; of the base model, when the server was started. */
  readonly created: number
  readonly owned_by: 'quiver'
  /** What answers: of an adapter the very version that its name means now. */
  readonly root: string
  /** The base model of an adapter. */
  readonly parent: string | null
}

export interface ModelSource {
  readonly info: WorkerInfo
  /** All base models that are served, that of `info` first. */
  readonly bases: readonly string[]
  readonly catalogue: Pick<CatalogueView, 'latest' | 'names'>
  readonly startedAt: Date
}

/** Cards are made as they are written: of 100,000 adapters they are 20 MB. What is retired meanwhile is left out. */
export function listModels(source: ModelSource): { readonly object: 'list'; readonly data: LongList<ModelCard> } {
  const names = source.catalogue.names()
  function* cards(): Generator<ModelCard> {
    for (const id of source.bases) yield baseCard(id, source)
    for (const name of names) {
      const card = adapterCard(name, source)
      if (card !== undefined) yield card
    }
  }
  return { object: 'list', data: new LongList(cards) }
}

/** @throws ServingError `adapter_not_found` */
export function describeModel(id: string, source: ModelSource): ModelCard {
  const card = source.bases.includes(id) ? baseCard(id, source) : adapterCard(id, source)
  if (card !== undefined) return card
  throw new ServingError('adapter_not_found', `The model ${JSON.stringify(id.slice(0, 200))} does not exist`, { param: 'model' })
}

function baseCard(id: string, { startedAt }: ModelSource): ModelCard {
  return { id, object: 'model', created: seconds(startedAt), owned_by: 'quiver', root: id, parent: null }
}

function adapterCard(name: string, { info, bases, catalogue }: ModelSource): ModelCard | undefined {
  const manifest = catalogue.latest(name)
  if (manifest === undefined) return undefined
  return {
    id: name,
    object: 'model',
    created: seconds(new Date(manifest.createdAt)),
    owned_by: 'quiver',
    root: `${name}@sha256:${manifest.digest}`,
    parent: bases.includes(manifest.base) ? manifest.base : info.model.id,
  }
}

function seconds(date: Date): number {
  return Math.floor(date.getTime() / 1000)
}
