import type { ObjectStore } from '@quiver/cache/store'
import { type AdapterDigest, type AdapterName, ServingError } from '@quiver/protocol'
import { type AdapterReference, parseAdapterReference } from './adapter-reference.ts'
import { CATALOGUE_PREFIX, decodeManifest, encodeManifest, type Manifest, manifestKey } from './manifest.ts'

const MANIFEST_BYTES = 64 * 1024
/** Names that an answer about an unknown adapter mentions. */
const NAMES_SHOWN = 8

/**
 * Which adapters there are. The truth is the manifests in the object store, each written once and never changed; this is
 * the copy in memory that requests are answered from. A name alone means its latest version.
 */
export class Catalogue {
  readonly #store: ObjectStore
  readonly #latest = new Map<string, Manifest>()
  /** All versions of a name, by number. */
  readonly #versions = new Map<string, Map<number, Manifest>>()

  constructor(store: ObjectStore) {
    this.#store = store
  }

  /**
   * Reads every manifest; to be called before anything is resolved, and again to learn what others have published.
   * @throws ServingError `source_unavailable`
   */
  async load(): Promise<void> {
    for await (const { key } of this.#store.list(CATALOGUE_PREFIX)) {
      const { bytes } = await this.#store.get(key, { maxBytes: MANIFEST_BYTES })
      this.#remember(decodeManifest(key, bytes))
    }
  }

  /**
   * The version that `name`, `name@latest`, `name@3` or `name@sha256:…` means now. A lookup in memory: no store is asked, whatever the name.
   * @throws ServingError `invalid_request` for what cannot be a name, `adapter_not_found`
   */
  resolve(text: string): { readonly name: AdapterName; readonly digest: AdapterDigest } {
    const { name, version } = parseAdapterReference(text)
    const latest = this.#latest.get(name)
    if (latest === undefined) throw new ServingError('adapter_not_found', `Adapter '${name}' is not known here. ${this.#offer()}`)
    const manifest = this.#version(latest, version)
    if (manifest !== undefined) return { name, digest: manifest.digest }
    throw new ServingError(
      'adapter_not_found',
      `Adapter '${name}' has no version '${text.slice(name.length + 1)}' here. Its latest is ${latest.version}.`,
    )
  }

  latest(name: string): Manifest | undefined {
    return this.#latest.get(name)
  }

  /** Ascending by code unit. */
  names(): readonly string[] {
    return [...this.#latest.keys()].sort()
  }

  /**
   * Enters the next version of a name. Its bytes must be in the store already.
   * @throws ServingError `conflict` when somebody else entered that version first, `source_unavailable`
   */
  async add(manifest: Manifest): Promise<void> {
    await this.#store.put(manifestKey(manifest.name, manifest.version), encodeManifest(manifest), { ifNoneMatch: '*' })
    this.#remember(manifest)
  }

  #version(latest: Manifest, wanted: AdapterReference['version']): Manifest | undefined {
    const versions = this.#versions.get(latest.name)
    switch (wanted.kind) {
      case 'latest':
        return latest
      case 'number':
        return versions?.get(wanted.number)
      case 'digest':
        return [...(versions?.values() ?? [])].find(({ digest }) => digest === wanted.digest)
    }
  }

  #remember(manifest: Manifest): void {
    const versions = this.#versions.get(manifest.name) ?? new Map<number, Manifest>()
    versions.set(manifest.version, manifest)
    this.#versions.set(manifest.name, versions)
    const known = this.#latest.get(manifest.name)
    if (known === undefined || known.version < manifest.version) this.#latest.set(manifest.name, manifest)
  }

  #offer(): string {
    const names = this.names()
    if (names.length === 0) return 'No adapter has been published on this server.'
    const more = names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : ''
    return `There are: ${names.slice(0, NAMES_SHOWN).join(', ')}${more}.`
  }
}
