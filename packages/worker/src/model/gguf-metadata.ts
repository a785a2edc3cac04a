import { ServingError } from '@quiver/protocol'

/** A metadata value as the file types it. Arrays hold values of one type. */
export type GgufValue =
  | { readonly kind: 'integer'; readonly value: bigint }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'boolean'; readonly value: boolean }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'strings'; readonly value: readonly string[] }
  | { readonly kind: 'numbers'; readonly value: readonly number[] }
  | { readonly kind: 'booleans'; readonly value: readonly boolean[] }

type Kind = GgufValue['kind']

/** Typed reading of a file's metadata: a key of another type than expected is refused by name, an absent one is undefined. */
export class GgufMetadata {
  readonly #values: ReadonlyMap<string, GgufValue>
  readonly #path: string

  constructor(path: string, values: ReadonlyMap<string, GgufValue>) {
    this.#path = path
    this.#values = values
  }

  has(key: string): boolean {
    return this.#values.has(key)
  }

  keys(): IterableIterator<string> {
    return this.#values.keys()
  }

  text(key: string): string | undefined {
    const found = this.#get(key, ['string'])
    return found?.kind === 'string' ? found.value : undefined
  }

  flag(key: string): boolean | undefined {
    const found = this.#get(key, ['boolean'])
    return found?.kind === 'boolean' ? found.value : undefined
  }

  /** A float, or an integer read as one. */
  number(key: string): number | undefined {
    const found = this.#get(key, ['float', 'integer'])
    if (found?.kind === 'float') return found.value
    return found?.kind === 'integer' ? Number(found.value) : undefined
  }

  /** An integer, 0 … 2^53−1. */
  count(key: string): number | undefined {
    const found = this.#get(key, ['integer'])
    if (found?.kind !== 'integer') return undefined
    if (found.value < 0n || found.value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new ServingError('invalid_request', `${this.#path}: metadata ${key} = ${found.value} is out of range`)
    }
    return Number(found.value)
  }

  texts(key: string): readonly string[] | undefined {
    const found = this.#get(key, ['strings'])
    return found?.kind === 'strings' ? found.value : undefined
  }

  numbers(key: string): readonly number[] | undefined {
    const found = this.#get(key, ['numbers'])
    return found?.kind === 'numbers' ? found.value : undefined
  }

  /**
   * A count that newer converters write per layer where layers differ: one number for all, or an array of equal numbers.
   * @throws ServingError `invalid_request` when the layers differ
   */
  uniformCount(key: string): number | undefined {
    const found = this.#values.get(key)
    if (found?.kind !== 'numbers') return this.count(key)
    const first = found.value[0]
    if (first === undefined || found.value.some((value) => value !== first)) {
      throw new ServingError(
        'invalid_request',
        `${this.#path}: metadata ${key} differs between layers, which is not supported: every layer must have the same shape`,
      )
    }
    return first
  }

  #get(key: string, kinds: readonly Kind[]): GgufValue | undefined {
    const found = this.#values.get(key)
    if (found !== undefined && !kinds.includes(found.kind)) {
      throw new ServingError(
        'invalid_request',
        `${this.#path}: metadata ${key} has the wrong type: expected ${kinds.join(' or ')}, found ${found.kind}`,
      )
    }
    return found
  }
}
