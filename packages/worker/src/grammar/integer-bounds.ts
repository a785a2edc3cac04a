import { refusal } from './compile-thread.ts'

/** Values of an integer between two bounds that are listed one by one. */
const MOST_VALUES = 2_000

/** Where a schema is one of several: the compiler (0.1.27) lets lists of longer numbers run into each other there. */
const AMONG_OTHERS = /\/(anyOf|oneOf|\$defs|definitions)\//

export const integerBounds = ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'] as const

/**
 * What the compiler is given for an integer's bounds. Of longer numbers it lets some past (0.1.27 takes 1 for `minimum: 5`), so
 * that bounds become a list of values; a minimum of 0 or 1 alone it holds to.
 * @returns undefined where there are no bounds
 * @throws ServingError `invalid_parameters`
 */
export function boundedInteger(
  schema: Readonly<Record<string, unknown>>,
  where: string,
): Readonly<Record<string, unknown>> | undefined {
  const [minimum, maximum, above, below] = integerBounds.map((name) => schema[name])
  if ([minimum, maximum, above, below].every((bound) => bound === undefined)) return undefined
  const least = most([minimum, typeof above === 'number' ? above + 1 : above])
  const greatest = -most([negated(maximum), typeof below === 'number' ? -(below - 1) : below])
  if (greatest === Number.POSITIVE_INFINITY && (least === 0 || least === 1)) return { type: 'integer', minimum: least }
  const count = greatest - least + 1
  if (AMONG_OTHERS.test(where) && (least < -9 || greatest > 9)) {
    throw refusal(
      `the bounds at ${where} are supported only from -9 to 9: within anyOf, oneOf or $defs longer ones would not hold`,
    )
  }
  if (count >= 1 && count <= MOST_VALUES) return { enum: Array.from({ length: count }, (_, at) => least + at) }
  throw refusal(
    `the bounds at ${where} are supported with 1 to ${MOST_VALUES} whole numbers between them, or as a minimum of 0 or 1 alone`,
  )
}

function most(bounds: readonly unknown[]): number {
  const given = bounds.filter((bound) => bound !== undefined)
  if (!given.every((bound) => Number.isSafeInteger(bound))) throw refusal('bounds are supported only as whole numbers')
  return Math.max(Number.NEGATIVE_INFINITY, ...given.map(Number))
}

function negated(bound: unknown): unknown {
  return typeof bound === 'number' ? 0 - bound : bound
}
