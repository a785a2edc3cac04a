import type { AdapterRef } from '@quiver/protocol'

/** Names that get a label of their own; a server may have a million adapters, and each label is a time series for ever. */
const LABELLED_NAMES = 100

export interface AdapterLabel {
  readonly kind: AdapterRef['kind']
  /** Of registered adapters; paths and merges have no bounded number of names and so no label. */
  readonly adapter: string
}

/** Gives the first registered adapters that are used a label each, and all later ones `other`. */
export class AdapterLabels {
  readonly #names = new Set<string>()

  of(ref: AdapterRef): AdapterLabel {
    const { kind } = ref
    if (ref.kind !== 'registered') return { kind, adapter: '' }
    if (this.#names.size < LABELLED_NAMES) this.#names.add(ref.name)
    return { kind, adapter: this.#names.has(ref.name) ? labelText(ref.name) : 'other' }
  }
}

/** Text as a label may hold it: control characters, line ends above all, are written out, so that none can begin a line. */
export function labelText(text: string): string {
  return text.replace(/\p{Cc}|[\u2028\u2029]/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)
}
