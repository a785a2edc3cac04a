import { type AdapterDigest, type AdapterName, parseAdapterDigest, parseAdapterName, ServingError } from '@quiver/protocol'

/** A name, and which of its versions is meant. */
export interface AdapterReference {
  readonly name: AdapterName
  readonly version:
    | { readonly kind: 'latest' }
    | { readonly kind: 'number'; readonly number: number }
    | { readonly kind: 'digest'; readonly digest: AdapterDigest }
}

/**
 * `name` and `name@latest`: the latest version; `name@3`: that one; `name@sha256:…`: the one with these very weights.
 * @throws ServingError `invalid_request` for anything else
 * @example parseAdapterReference('acme/sql@3')
 */
export function parseAdapterReference(text: string): AdapterReference {
  const at = text.indexOf('@')
  if (at === -1) return { name: parseAdapterName(text), version: { kind: 'latest' } }
  const name = parseAdapterName(text.slice(0, at))
  const version = text.slice(at + 1)
  if (version === 'latest') return { name, version: { kind: 'latest' } }
  if (/^[1-9][0-9]{0,8}$/.test(version)) return { name, version: { kind: 'number', number: Number(version) } }
  if (version.startsWith('sha256:')) {
    return { name, version: { kind: 'digest', digest: parseAdapterDigest(version.slice('sha256:'.length)) } }
  }
  throw new ServingError(
    'invalid_request',
    `${JSON.stringify(version.slice(0, 80))} is not a version of an adapter: write latest, a number or sha256: and a digest`,
  )
}
