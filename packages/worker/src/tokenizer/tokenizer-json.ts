import { ServingError } from '@quiver/protocol'
import { z } from 'zod'

/** A byte-pair model as `tokenizer.json` gives it. */
export interface BpeModel {
  readonly vocabulary: ReadonlyMap<string, number>
  /** The two halves of each merge, best first. */
  readonly merges: readonly (readonly [string, string])[]
  /** A piece that is a token as a whole is not built by merges. */
  readonly ignoreMerges: boolean
  /** A character that is no token is spelled with `<0x00>` … `<0xFF>`. */
  readonly byteFallback: boolean
  readonly unknownId: number | undefined
  /** Unknown symbols in a row become one unknown token. */
  readonly fuseUnknown: boolean
}

const patternSchema = z.union([z.object({ Regex: z.string() }), z.object({ String: z.string() })])
export type Pattern = z.infer<typeof patternSchema>

const splitBehaviours = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'] as const
export type SplitBehaviour = (typeof splitBehaviours)[number]

const normalizerStep = z.discriminatedUnion('type', [
  z.object({ type: z.enum(['NFC', 'NFD', 'NFKC', 'NFKD']) }),
  z.object({ type: z.literal('Prepend'), prepend: z.string() }),
  z.object({ type: z.literal('Replace'), pattern: patternSchema, content: z.string() }),
])
export type NormalizerStep = z.infer<typeof normalizerStep>

const preTokenizerStep = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('Split'),
    pattern: patternSchema,
    behavior: z.enum(splitBehaviours),
    invert: z.boolean().default(false),
  }),
  z.object({ type: z.literal('Digits'), individual_digits: z.boolean() }),
  z.object({
    type: z.literal('Metaspace'),
    replacement: z.string(),
    prepend_scheme: z.enum(['always', 'first', 'never']).default('always'),
    split: z.boolean().default(true),
  }),
  z.object({ type: z.literal('ByteLevel'), add_prefix_space: z.boolean(), use_regex: z.boolean().default(true) }),
])
export type PreTokenizerStep = z.infer<typeof preTokenizerStep>

const decoderStep = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ByteLevel') }),
  z.object({ type: z.literal('Replace'), pattern: z.object({ String: z.string().min(1) }), content: z.string() }),
  z.object({ type: z.literal('ByteFallback') }),
  z.object({ type: z.literal('Fuse') }),
  z.object({ type: z.literal('Strip'), content: z.literal(' '), start: z.literal(1), stop: z.literal(0) }),
])
export type DecoderStep = z.infer<typeof decoderStep>

const templateItem = z.union([
  z.object({ SpecialToken: z.object({ id: z.string() }) }),
  z.object({ Sequence: z.object({ id: z.enum(['A', 'B']) }) }),
])
const postProcessorStep = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ByteLevel') }),
  z.object({
    type: z.literal('TemplateProcessing'),
    single: z.array(templateItem),
    special_tokens: z.record(z.string(), z.object({ ids: z.array(z.int().nonnegative()) })),
  }),
])
export type PostProcessorStep = z.infer<typeof postProcessorStep>

const addedToken = z.object({
  id: z.int().nonnegative(),
  content: z.string().min(1),
  single_word: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  normalized: z.boolean().default(false),
  special: z.boolean().default(false),
})
export type AddedToken = z.infer<typeof addedToken>

const modelSchema = z.object({
  type: z.literal('BPE'),
  dropout: z.union([z.null(), z.literal(0)]).optional(),
  unk_token: z.string().nullish(),
  continuing_subword_prefix: z.union([z.null(), z.literal('')]).optional(),
  end_of_word_suffix: z.union([z.null(), z.literal('')]).optional(),
  fuse_unk: z.boolean().default(false),
  byte_fallback: z.boolean().default(false),
  ignore_merges: z.boolean().default(false),
})

/** What a tokenizer does, in the order of the steps of each stage. */
export interface TokenizerDescription {
  readonly addedTokens: readonly AddedToken[]
  readonly normalizer: readonly NormalizerStep[]
  readonly preTokenizer: readonly PreTokenizerStep[]
  readonly model: BpeModel
  readonly postProcessor: readonly PostProcessorStep[]
  readonly decoder: readonly DecoderStep[]
}

/**
 * Reads a parsed `tokenizer.json`. What is not known to give the very tokens of Rust's `tokenizers` is refused, because a
 * prompt in slightly wrong tokens is answered, and answered worse, without anyone noticing.
 * @throws ServingError `invalid_request` naming the part that is damaged or not supported
 */
export function parseTokenizerJson(json: Readonly<Record<string, unknown>>): TokenizerDescription {
  return {
    addedTokens: read('added_tokens', z.array(addedToken), json['added_tokens'] ?? []),
    normalizer: readSteps('normalizer', 'normalizers', normalizerStep, json['normalizer']),
    preTokenizer: readSteps('pre_tokenizer', 'pretokenizers', preTokenizerStep, json['pre_tokenizer']),
    model: readModel(json['model']),
    postProcessor: readSteps('post_processor', 'processors', postProcessorStep, json['post_processor']),
    decoder: readSteps('decoder', 'decoders', decoderStep, json['decoder']),
  }
}

function refuse(part: string, reason: string): ServingError {
  return new ServingError('invalid_request', `this tokenizer is not supported: ${part}: ${reason}`)
}

function read<T>(part: string, schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const path = issue === undefined ? '' : issue.path.join('.')
  throw refuse(path === '' ? part : `${part}.${path}`, `${issue?.message ?? 'not valid'} in ${describe(value)}`)
}

function describe(value: unknown): string {
  return (JSON.stringify(value) ?? 'undefined').slice(0, 120)
}

/** A stage is nothing, one step, or a `Sequence` of stages. */
function readSteps<T>(part: string, key: string, schema: z.ZodType<T>, stage: unknown): T[] {
  if (stage === null || stage === undefined) return []
  const sequence = z.object({ type: z.literal('Sequence'), [key]: z.array(z.unknown()) }).safeParse(stage)
  if (!sequence.success) return [read(part, schema, stage)]
  const inner: unknown = sequence.data[key]
  return (Array.isArray(inner) ? inner : []).flatMap((step) => readSteps(part, key, schema, step))
}

function readModel(value: unknown): BpeModel {
  const settings = read('model', modelSchema, summary(value))
  // By hand: a schema takes longer over 150,000 entries than the rest of the start.
  const { vocab, merges } = value as { readonly vocab?: unknown; readonly merges?: unknown }
  if (typeof vocab !== 'object' || vocab === null) throw refuse('model.vocab', 'it is missing')
  const vocabulary = new Map<string, number>()
  for (const [token, id] of Object.entries(vocab)) {
    if (!Number.isSafeInteger(id) || id < 0) throw refuse('model.vocab', `${JSON.stringify(token)} has no id`)
    vocabulary.set(token, id)
  }
  if (!Array.isArray(merges)) throw refuse('model.merges', 'they are missing')
  const unknownId = typeof settings.unk_token === 'string' ? vocabulary.get(settings.unk_token) : undefined
  return {
    vocabulary,
    merges: merges.map(readMerge),
    ignoreMerges: settings.ignore_merges,
    byteFallback: settings.byte_fallback,
    unknownId,
    fuseUnknown: settings.fuse_unk,
  }
}

/** The model without its big lists, for the schema and for messages. */
function summary(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).filter(([key]) => key !== 'vocab' && key !== 'merges'))
}

function readMerge(merge: unknown, rank: number): readonly [string, string] {
  const halves: unknown = typeof merge === 'string' ? merge.split(' ') : merge
  if (!Array.isArray(halves) || halves.length !== 2 || typeof halves[0] !== 'string' || typeof halves[1] !== 'string') {
    throw refuse(`model.merges.${rank}`, `${describe(merge)} is not two tokens`)
  }
  return [halves[0], halves[1]]
}
