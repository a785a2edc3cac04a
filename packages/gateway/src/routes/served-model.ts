import { ServingError, type WorkerInfo } from '@quiver/protocol'
import type { CatalogueView } from '../catalogue/catalogue.ts'
import type { WorkerSource } from '../worker/worker-source.ts'
import { adapterSource, isAdapterNamed } from './adapter-source.ts'
import type { GenerateParameters } from './generate-schema.ts'

export interface Wanted {
  readonly parameters: GenerateParameters
  /** What an OpenAI request calls its model: a base model, or an adapter. */
  readonly model?: string
  readonly catalogue: Pick<CatalogueView, 'resolve'>
}

/**
 * The base model that a request runs on, as its workers describe it: the one that it names, that of its adapter in the catalogue, else
 * the usual one. An adapter whose base nobody serves is left to the usual one, where its shapes decide.
 * @throws ServingError `not_ready` before the first worker was there
 */
export function servedModel(workers: Pick<WorkerSource, 'info' | 'infoOf' | 'bases'>, wanted: Wanted): WorkerInfo {
  const usual = workers.info
  if (usual === undefined) throw new ServingError('not_ready', 'The model is still being loaded: try again in a moment')
  if (workers.bases.length < 2) return usual
  const named = wanted.model === undefined ? undefined : workers.infoOf(wanted.model)
  if (named !== undefined) return named
  const base = baseOfAdapter(wanted)
  return (base === undefined ? undefined : workers.infoOf(base)) ?? usual
}

function baseOfAdapter({ parameters, model, catalogue }: Wanted): string | undefined {
  if (adapterSource(parameters) !== 'store') return undefined
  const name = model ?? (isAdapterNamed(parameters) ? parameters.adapter_id : parameters.merged_adapters?.ids[0])
  if (name === undefined || name === '') return undefined
  try {
    return catalogue.resolve(name).base
  } catch (error) {
    // That it is not known is said where it is looked up for the run.
    if (error instanceof ServingError) return undefined
    throw error
  }
}
