import { type AdapterDigest, type AdapterName, parseAdapterDigest, parseAdapterName, ServingError } from '@quiver/protocol'

/** The alias that a name alone means. */
export const DEFAULT_ALIAS = 'latest'

/** A name, and which of its versions is meant. */
export interface AdapterReference {
  readonly name: AdapterName
  readonly version:
    | { readonly kind: 'alias'; readonly alias: string }
    | { readonly kind: 'number'; readonly number: number }
    | { readonly kind: 'digest'; readonly digest: AdapterDigest }
}

const ALIAS = /^[A-Za-z][A-Za-z0-9._-]{0,63}$/

/**
 * `name` and `name@latest`: what the alias `latest` names; `name@stable`: another alias; `name@3`: that version;
 * `name@sha256:…`: the one with these very weights.
 * @throws ServingError `invalid_request` for anything else
 * @example parseAdapterReference('acme/sql@3')
 */
export function parseAdapterReference(text: string): AdapterReference {
  const at = text.indexOf('@')
  if (at === -1) return { name: parseAdapterName(text), version: { kind: 'alias', alias: DEFAULT_ALIAS } }
  const name = parseAdapterName(text.slice(0, at))
  const version = text.slice(at + 1)
  if (/^[1-9][0-9]{0,8}$/.test(version)) return { name, version: { kind: 'number', number: Number(version) } }
  if (version.startsWith('sha256:')) {
    return { name, version: { kind: 'digest', digest: parseAdapterDigest(version.slice('sha256:'.length)) } }
  }
  if (ALIAS.test(version)) return { name, version: { kind: 'alias', alias: version } }
  throw new ServingError(
    'invalid_request',
    `${JSON.stringify(version.slice(0, 80))} is not a version of an adapter: write an alias, a number or sha256: and a digest`,
  )
}

/**
 * An alias begins with a letter, so that it is never taken for a number, and has letters, digits, `.`, `_` and `-`: at most 64.
 * @throws ServingError `invalid_request`
 */
export function parseAlias(text: string): string {
  if (ALIAS.test(text)) return text
  throw new ServingError(
    'invalid_request',
    `${JSON.stringify(text.slice(0, 80))} is not an alias: use letters, digits, ".", "_" and "-", starting with a letter, ` +
      'at most 64 characters',
  )
}
