/** Seeds have 64 bits in both directions, a JSON number only 53. Above that the digits are taken from the body's own text. */
import { ServingError } from '@quiver/protocol'

const SEED_MAX = 2n ** 64n - 1n

/**
 * @param body the JSON text that was parsed without an error
 * @param seed the seed as JSON.parse gave it
 * @param place where it stands: in `parameters` or beside it
 * @returns the seed's exact digits, 0 … 2^64−1
 * @throws ServingError `invalid_parameters` when it is not a whole number in that range
 * @example exactSeed('{"parameters":{"seed":18446744073709551615}}', 18446744073709551615) // '18446744073709551615'
 */
export function exactSeed(body: string, seed: number, place: 'parameters' | 'body' = 'parameters'): string {
  if (Number.isSafeInteger(seed) && seed >= 0) return String(seed)
  const digits = seed > 0 ? seedDigits(body, place) : undefined
  if (digits !== undefined && /^[0-9]{16,20}$/.test(digits) && BigInt(digits) <= SEED_MAX) return digits
  throw new ServingError('invalid_parameters', `\`seed\` must be a whole number from 0 to ${SEED_MAX}`)
}

/** The text of the seed. */
function seedDigits(body: string, place: 'parameters' | 'body'): string | undefined {
  /** By the object that each `seed` stands in. */
  const texts = new WeakMap<object, string>()
  const root = parseWithSource(body, function (key, value, { source }) {
    if (key === 'seed' && source !== undefined) texts.set(this, source)
    return value
  })
  return texts.get(place === 'body' ? (root as object) : (root as { parameters: object }).parameters)
}

/** JSON.parse tells its reviver the text of each number in every Node since 21, but the compiler's library does not know yet. */
const parseWithSource = JSON.parse as (
  text: string,
  reviver: (this: object, key: string, value: unknown, context: { readonly source?: string }) => unknown,
) => unknown
