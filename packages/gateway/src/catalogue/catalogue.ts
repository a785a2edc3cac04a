import type { ObjectStore } from '@quiver/cache/store'
import { type AdapterDigest, type AdapterName, ServingError } from '@quiver/protocol'
import { type AdapterReference, parseAdapterReference } from './adapter-reference.ts'
import { CATALOGUE_PREFIX, decodeManifest, encodeManifest, type Manifest, manifestKey } from './manifest.ts'

const MANIFEST_BYTES = 64 * 1024
/** Names that an answer about an unknown adapter mentions. */
const NAMES_SHOWN = 8

/** The part of the catalogue that one tenant may know of. */
export interface CatalogueView {
  /** As `Catalogue.resolve`. A private adapter of another tenant is one that does not exist. */
  resolve(text: string): { readonly name: AdapterName; readonly digest: AdapterDigest }
  latest(name: string): Manifest | undefined
  names(): readonly string[]
}

const everything = () => true

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
  resolve(text: string, isVisible: (manifest: Manifest) => boolean = everything): ReturnType<CatalogueView['resolve']> {
    const { name, version } = parseAdapterReference(text)
    const latest = this.#latestOf(name, isVisible)
    if (latest === undefined)
      throw new ServingError('adapter_not_found', `Adapter '${name}' is not known here. ${this.#offer(isVisible)}`)
    const manifest = this.#version(latest, version)
    if (manifest !== undefined && isVisible(manifest)) return { name, digest: manifest.digest }
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
    return this.#namesOf(everything)
  }

  /** What a tenant sees: the public adapters and its own. It follows every change. */
  visibleTo(tenant: string): CatalogueView {
    const isVisible = (manifest: Manifest) => manifest.tenant === undefined || manifest.tenant === tenant
    return {
      resolve: (text) => this.resolve(text, isVisible),
      latest: (name) => this.#latestOf(name, isVisible),
      names: () => this.#namesOf(isVisible),
    }
  }

  /**
   * Enters the next version of a name. Its bytes must be in the store already.
   * @throws ServingError `conflict` when somebody else entered that version first, `source_unavailable`
   */
  async add(manifest: Manifest): Promise<void> {
    await this.#store.put(manifestKey(manifest.name, manifest.version), encodeManifest(manifest), { ifNoneMatch: '*' })
    this.#remember(manifest)
  }

  #namesOf(isVisible: (manifest: Manifest) => boolean): readonly string[] {
    return [...this.#latest.keys()].filter((name) => this.#latestOf(name, isVisible) !== undefined).sort()
  }

  #latestOf(name: string, isVisible: (manifest: Manifest) => boolean): Manifest | undefined {
    const latest = this.#latest.get(name)
    if (latest === undefined || isVisible(latest)) return latest
    const visible = [...(this.#versions.get(name)?.values() ?? [])].filter(isVisible)
    return visible.toSorted((a, b) => b.version - a.version)[0]
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

  #offer(isVisible: (manifest: Manifest) => boolean): string {
    const names = this.#namesOf(isVisible)
    if (names.length === 0) return 'No adapter has been published on this server.'
    const more = names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : ''
    return `There are: ${names.slice(0, NAMES_SHOWN).join(', ')}${more}.`
  }
}
