/** `parameters.merged_adapters`: its types, its rules in LoRAX's order, and what it means to the worker. */
import { limits, type MemberRef, type MergedRef, majoritySigns, mergeStrategies, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { type AdapterSource, idFault } from './adapter-source.ts'

const IDS = { error: 'must have `ids`, a list of strings' }
const WEIGHTS = { error: 'must have finite numbers as `weights`' }

/** Only types; null means absent, as in all of `parameters`. */
export const mergedAdaptersSchema = z.object(
  {
    ids: z.array(z.string(IDS), IDS).describe('At most eight adapters; one may come twice.'),
    weights: z
      .array(z.number(WEIGHTS), WEIGHTS)
      .nullish()
      .describe('One for each adapter; a negative one takes its effect away.'),
    merge_strategy: z
      .string({ error: 'must have a string as `merge_strategy`' })
      .nullish()
      .describe(`${mergeStrategies.join(', ')}; without one, linear.`),
    density: z
      .number({ error: 'must have a finite number as `density`' })
      .nullish()
      .describe('The share of values that is kept: above 0, at most 1. Needed for all strategies but linear.'),
    majority_sign_method: z
      .string({ error: 'must have a string as `majority_sign_method`' })
      .nullish()
      .describe(`${majoritySigns.join(' or ')}; without one, total.`),
  },
  { error: 'must be an object' },
)
export type MergedAdapters = z.infer<typeof mergedAdaptersSchema>

export interface MergedRule {
  readonly fails: (merged: MergedAdapters, source: AdapterSource) => boolean
  readonly message: (merged: MergedAdapters, source: AdapterSource) => string
}

/** The largest finite float32: weights have 32 bits in LoRAX. */
const F32_MAX = 3.4028234663852886e38
/** All ids come back in one header. */
const MAX_IDS_CHARACTERS = 4096

/** The first that fails is the answer, as 422. The texts of the first two are LoRAX's. */
export const mergedRules: readonly MergedRule[] = [
  {
    fails: ({ ids }) => ids.length === 0,
    message: () => 'at least one adapter ID must be provided when setting `adapters`',
  },
  {
    fails: ({ ids, weights }) => ids.length !== (weights ?? []).length,
    message: () => 'number of adapter IDs must match number of adapter weights',
  },
  {
    fails: ({ ids }) => ids.length > limits.mergedAdapters,
    message: ({ ids }) => `\`merged_adapters\` supports up to ${limits.mergedAdapters} adapter IDs. Given: ${ids.length}`,
  },
  {
    fails: ({ weights }) => (weights ?? []).some((weight) => Math.abs(weight) > F32_MAX),
    message: () => '`weights` of `merged_adapters` must be finite numbers of 32 bits',
  },
  {
    fails: ({ merge_strategy }) => strategyOf(merge_strategy) === undefined,
    message: () => `\`merge_strategy\` must be one of ${mergeStrategies.join(', ')}`,
  },
  {
    fails: ({ majority_sign_method }) => signOf(majority_sign_method) === undefined,
    message: () => `\`majority_sign_method\` must be one of ${majoritySigns.join(', ')}`,
  },
  {
    fails: ({ density }) => (density ?? 0) < 0 || (density ?? 0) > 1,
    message: ({ density }) => `\`density\` must be >= 0.0 and <= 1.0. Given: ${density}`,
  },
  {
    // LoRAX takes 0, its default, and answers with the base model's text.
    fails: ({ merge_strategy, density }) => strategyOf(merge_strategy) !== 'linear' && (density ?? 0) === 0,
    message: ({ merge_strategy }) =>
      `\`density\` must be > 0.0 with \`merge_strategy\` ${strategyOf(merge_strategy)}: nothing would be left of the adapters`,
  },
  {
    fails: ({ ids }) => !isHeaderSafe(ids),
    message: () =>
      '`ids` of `merged_adapters` must have only printable ASCII characters, without a space at either end, and together at ' +
      `most ${MAX_IDS_CHARACTERS} of them`,
  },
  {
    fails: ({ ids }, source) => ids.some((id) => memberFault(source, id) !== undefined),
    message: ({ ids }, source) => ids.map((id) => memberFault(source, id)).find((fault) => fault !== undefined) ?? '',
  },
]

/**
 * Says a checked `merged_adapters` in the words of the worker.
 * @param refOf finds one adapter where the request says that its adapters are
 * @throws ServingError `adapter_invalid` when the base model is among them, and what `refOf` throws
 */
export function mergedRef(
  { ids, weights, merge_strategy, density, majority_sign_method }: MergedAdapters,
  refOf: (id: string) => MemberRef,
): MergedRef {
  if (ids.some(isBaseModel)) throw new ServingError('adapter_invalid', 'Base model adapter cannot be merged.')
  const strategy = strategyOf(merge_strategy) ?? 'linear'
  return {
    kind: 'merged',
    members: ids.map((id, at) => ({ ref: refOf(id), weight: weights?.[at] ?? 0 })),
    strategy,
    density: strategy === 'linear' ? 1 : (density ?? 0),
    sign: signOf(majority_sign_method) ?? 'total',
  }
}

/** LoRAX reads both words without regard to case. */
function strategyOf(word: string | null | undefined): MergedRef['strategy'] | undefined {
  return mergeStrategies.find((known) => known === (word ?? 'linear').toLowerCase())
}

function signOf(word: string | null | undefined): MergedRef['sign'] | undefined {
  return majoritySigns.find((known) => known === (word ?? 'total').toLowerCase())
}

/** LoRAX's own name for the base model, and the id that means it elsewhere. */
function isBaseModel(id: string): boolean {
  return id === '' || id === '__base_model__'
}

function isHeaderSafe(ids: readonly string[]): boolean {
  const joined = ids.join(',')
  return /^[\x20-\x7e]*$/.test(joined) && joined.length <= MAX_IDS_CHARACTERS && ids.every((id) => id.trim() === id)
}

function memberFault(source: AdapterSource, id: string): string | undefined {
  return isBaseModel(id) ? undefined : idFault(source, id)
}
