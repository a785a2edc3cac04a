import { parseBucketPlace, parseHubReference } from '@quiver/cache/origin'
import { hubTokenSchema, type MemberRef, ServingError } from '@quiver/protocol'
import { parseAdapterReference } from '../catalogue/adapter-reference.ts'
import type { CatalogueView, ResolvedAdapter } from '../catalogue/catalogue.ts'
import type { GenerateParameters } from './generate-schema.ts'

/** Where a request's adapter comes from: this server's catalogue, a folder beside the worker, the hub, a bucket, or a place that is not offered. */
export type AdapterSource = 'store' | 'local' | 'hub' | 's3' | 'pbase' | 'unknown'

const SOURCES: ReadonlyMap<string, AdapterSource> = new Map<string, AdapterSource>([
  ['store', 'store'],
  ['local', 'local'],
  ['hub', 'hub'],
  ['s3', 's3'],
  ['pbase', 'pbase'],
])

/** LoRAX reads the source without regard to case; without one, the catalogue is meant. */
export function adapterSource({ adapter_source }: GenerateParameters): AdapterSource {
  if (adapter_source === null || adapter_source === undefined || adapter_source === '') return 'store'
  return SOURCES.get(adapter_source.toLowerCase()) ?? 'unknown'
}

/** An empty or absent id means the base model. */
export function isAdapterNamed<P extends GenerateParameters>(parameters: P): parameters is P & { adapter_id: string } {
  return parameters.adapter_id !== null && parameters.adapter_id !== undefined && parameters.adapter_id !== ''
}

/** Why this cannot be the id of an adapter there; undefined where it can. Nothing is asked. */
export function idFault(source: AdapterSource, id: string): string | undefined {
  try {
    if (source === 'store') parseAdapterReference(id)
    else if (source === 's3') parseBucketPlace(id)
    else if (source === 'hub' && parseHubReference(id) === undefined) {
      return `\`${id.slice(0, 80)}\` is not the id of an adapter on the hub: write org/name or org/name@revision`
    }
    return undefined
  } catch (error) {
    if (error instanceof ServingError) return error.message
    throw error
  }
}

/** Whether a token given for the hub can be none: it could not stand in a header. */
export function isTokenBroken(parameters: GenerateParameters): boolean {
  return (
    adapterSource(parameters) === 'hub' &&
    hubTokenOf(parameters) !== undefined &&
    hubTokenSchema.safeParse(parameters.api_token).success === false
  )
}

/**
 * LoRAX takes the request's bearer token for the hub where the body has none. Here that may be this server's own key, so only what is
 * plainly the hub's is taken.
 */
export function withBearerToken<P extends GenerateParameters>(parameters: P, authorization: string | undefined): P {
  const bearer = /^bearer +(hf_[A-Za-z0-9_]{1,500})$/i.exec(authorization ?? '')?.[1]
  return bearer === undefined || hubTokenOf(parameters) !== undefined ? parameters : { ...parameters, api_token: bearer }
}

/**
 * One adapter in the words of the worker.
 * @param id that `idFault` finds nothing wrong with
 * @throws ServingError `adapter_not_found`, `adapter_unavailable`
 */
export function namedRef(id: string, parameters: GenerateParameters, catalogue: Pick<CatalogueView, 'resolve'>): MemberRef {
  const source = adapterSource(parameters)
  switch (source) {
    case 'store':
      return registeredRef(catalogue.resolve(id))
    case 'local':
      return { kind: 'local', path: id }
    case 's3':
      return { kind: 's3', uri: id }
    case 'hub': {
      const { repo, revision } = parseHubReference(id) ?? { repo: id, revision: undefined }
      const token = hubTokenOf(parameters)
      return { kind: 'hub', id: repo, ...(revision === undefined ? {} : { revision }), ...(token === undefined ? {} : { token }) }
    }
    case 'unknown':
      throw new ServingError(
        'adapter_unavailable',
        `Invalid source '${printable(parameters.adapter_source ?? '')}' when downloading adapter '${id}'`,
      )
    case 'pbase':
      throw new ServingError(
        'adapter_unavailable',
        `Source '${parameters.adapter_source}' of adapter '${id}' is not offered by this server. Name an adapter of its ` +
          "catalogue without adapter_source, or say 'hub', 's3' or 'local'",
      )
  }
}

/** What the worker is told of a version: not its template, which goes with the prompt. */
export function registeredRef({ name, digest }: ResolvedAdapter): MemberRef {
  return { kind: 'registered', name, digest }
}

function hubTokenOf({ api_token }: GenerateParameters): string | undefined {
  return api_token === null || api_token === '' ? undefined : api_token
}

function printable(text: string): string {
  return text.slice(0, 80).replace(/[^\x20-\x7e]/g, '?')
}
