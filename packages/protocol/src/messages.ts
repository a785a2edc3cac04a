/**
 * Every message between a gateway and a worker. A message is parsed with its schema where it enters a process and trusted
 * after that. One version of difference either way is tolerated: unknown fields are dropped and unknown messages passed over, a code of
 * an error that is not known is `internal`, and a field that is added is one that may be absent.
 */
import { z } from 'zod'
import { adapterRefSchema } from './adapter-ref.ts'
import { baseLayoutSchema } from './base-layout.ts'
import { errorCodeSchema } from './errors.ts'
import { grammarSchema } from './grammar.ts'
import { limits } from './limits.ts'
import { promptSchema } from './prompt.ts'

const count = z.int().nonnegative()
const milliseconds = z.number().nonnegative()

/** An unsigned 64-bit seed as decimal text, because a JSON number loses digits above 2^53. */
export const seedSchema = z.string().regex(/^(0|[1-9][0-9]{0,19})$/)

/** How the next token is chosen. An absent field switches its rule off; all absent is greedy. */
export const samplingSchema = z.object({
  /** true: draw from the distribution; false: take the most likely token. */
  sample: z.boolean(),
  temperature: z.number().positive().optional(),
  topK: z.int().positive().optional(),
  topP: z.number().positive().max(1).optional(),
  typicalP: z.number().positive().lt(1).optional(),
  repetitionPenalty: z.number().positive().optional(),
  frequencyPenalty: z.number().min(-2).max(2).optional(),
  presencePenalty: z.number().min(-2).max(2).optional(),
  /** Added to the logits of these token ids, −100…100. */
  logitBias: z.record(z.string().regex(/^(0|[1-9][0-9]{0,8})$/), z.number().min(-100).max(100)).optional(),
  seed: seedSchema.optional(),
  /** Marks the text so that its origin can be told (watermark.ts of the worker). */
  watermark: z.literal(true).optional(),
})
export type SamplingParameters = z.infer<typeof samplingSchema>

/** Lowest first. */
export const priorities = ['low', 'normal', 'high'] as const
export type Priority = (typeof priorities)[number]

/** Body of `POST /v1/run`. The answer is a stream of RunEvents, one JSON object a line. */
export const runRequestSchema = z.object({
  requestId: z.string().min(1).max(128),
  tenant: z.string().min(1).max(128),
  /** The tenant's share of the worker beside other tenants; absent: 1. */
  weight: z.number().min(limits.tenantWeightAtLeast).max(limits.tenantWeightAtMost).optional(),
  /** Before or after the tenant's own other requests; absent: `normal`. */
  priority: z.enum(priorities).optional(),
  adapter: adapterRefSchema,
  /** The base model that it is meant for, which a worker of another one refuses; absent: the worker's. */
  base: z.string().min(1).optional(),
  prompt: promptSchema,
  /**
   * `embedding`: answer the mean of the prompt's hidden states instead of a text; of the fields only `adapter`, `prompt` and
   * `deadlineMs` count then. Absent: a text.
   */
  goal: z.enum(['text', 'embedding']).optional(),
  sampling: samplingSchema,
  /** Absent: as many as fit into the worker's total. */
  maxNewTokens: z.int().positive().optional(),
  stop: z.array(z.string().min(1).max(limits.stopSequenceCharacters)).max(limits.stopSequencesAtMost),
  ignoreEos: z.boolean(),
  /** Absent: any text. With one, a text that is complete ends, whatever `ignoreEos` says. */
  grammar: grammarSchema.optional(),
  /** Keeps the last n tokens of the prompt. */
  truncate: z.int().positive().optional(),
  /** Also answer the prompt's tokens with their log-probabilities. */
  prefillDetails: z.boolean(),
  /** Most likely alternatives reported beside every token; 0 for none. */
  alternatives: count.max(limits.alternativeTokens),
  /** Requests share the keys and values of what they begin with only with those of their tenant that name the same salt, or none. */
  cacheSalt: z.string().min(1).max(limits.cacheSaltCharacters).optional(),
  /** Time left for the whole request, from its arrival at the worker. */
  deadlineMs: milliseconds.max(limits.requestDeadlineMs),
})
export type RunRequest = z.infer<typeof runRequestSchema>

export const tokenSchema = z.object({ id: count, text: z.string(), logprob: z.number() })
export type TokenLogprob = z.infer<typeof tokenSchema>

export const finishReasons = ['length', 'eos_token', 'stop_sequence'] as const
export type FinishReason = (typeof finishReasons)[number]

/**
 * `accepted`, then `prefill` where asked for, then `token`… or the one `embedding`, then exactly one of `done` or `error`.
 * `error` may come at any point.
 */
export const runEventSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('accepted'),
    promptTokens: count,
    /** Sequences waiting before this one. */
    queuePosition: count,
    /** Digest of the weights this request is bound to; absent for the base model. */
    adapterDigest: z.string().optional(),
  }),
  z.object({
    type: z.literal('prefill'),
    /** The prompt's tokens; the first has no predecessor and so no log-probability. */
    tokens: z.array(z.object({ id: count, text: z.string(), logprob: z.number().optional() })),
  }),
  z.object({
    type: z.literal('token'),
    ...tokenSchema.shape,
    special: z.boolean(),
    /** true: `done` follows and no further token. LoRAX sends the whole text with the last token, so it must be known by then. */
    last: z.boolean(),
    /** Present: it had been guessed and took no step of its own. */
    skipped: z.literal(true).optional(),
    alternatives: z.array(tokenSchema.extend({ special: z.boolean() })).optional(),
  }),
  z.object({
    type: z.literal('embedding'),
    /** The mean of the hidden states after the last norm, [hidden]: base64 of float32, little-endian. */
    values: z.base64(),
  }),
  z.object({
    type: z.literal('done'),
    /** Of an embedding `length`: no token may follow. */
    finishReason: z.enum(finishReasons),
    /** All generated tokens decoded, special ones left out. A stop text stays in. */
    generatedText: z.string(),
    promptTokens: count,
    /** Prompt tokens whose keys and values an earlier request had computed; absent: none. */
    cachedTokens: count.optional(),
    generatedTokens: count,
    /** Of these, those that had been guessed and took no step of their own; absent: none. */
    skippedTokens: count.optional(),
    /** The seed used; absent when nothing was sampled. */
    seed: seedSchema.optional(),
    /** From arrival to admission, and from admission to the last token. */
    queueMs: milliseconds,
    inferenceMs: milliseconds,
    /** From arrival to the first token, or to the embedding. */
    firstTokenMs: milliseconds,
  }),
  z.object({
    type: z.literal('error'),
    code: errorCodeSchema,
    message: z.string(),
    /** When it is worth trying again, by the measured speed; absent: not known. */
    retryAfterS: count.optional(),
  }),
])
export type RunEvent = z.infer<typeof runEventSchema>
/** Whatever has another type is a message of another version. */
export const runEventTypes: ReadonlySet<string> = new Set(runEventSchema.options.map(({ shape }) => shape.type.value))
export type DoneEvent = Extract<RunEvent, { type: 'done' }>
export type TokenEvent = Extract<RunEvent, { type: 'token' }>
export type TokenAlternative = NonNullable<TokenEvent['alternatives']>[number]

/** What the base model's weights are held in. `fp16` and `bf16` are a GPU's, the others a CPU's. */
export const dtypes = ['int8', 'int4', 'fp32', 'fp16', 'bf16'] as const
/** Where the model is computed; `auto`: on a GPU where one answers. */
export const devices = ['auto', 'cpu', 'cuda'] as const
export type DeviceChoice = (typeof devices)[number]
/** What applies adapters: our own operator where it is to be had, it or nothing, or ONNX Runtime's standard operators. */
export const loraModes = ['auto', 'operator', 'standard'] as const
export type LoraMode = (typeof loraModes)[number]
export type Dtype = (typeof dtypes)[number]

/** Answer of a worker's `GET /v1/info`. */
export const workerInfoSchema = z.object({
  workerId: z.string(),
  version: z.string(),
  model: z.object({
    id: z.string(),
    /** Digest of the model's files. */
    sha: z.string(),
    family: z.string(),
    /** For people: one of `dtypes`, or `server`: a server computes for the worker, and keeps its weights as it was told to. */
    dtype: z.string().min(1).max(32),
    vocabSize: count,
  }),
  engine: z.object({ kind: z.string(), device: z.string(), lora: z.string() }),
  layout: baseLayoutSchema,
  limits: z.object({
    sequences: count,
    totalTokens: count,
    inputTokens: count,
    slots: count,
    maxRank: count,
    waiting: count,
  }),
})
export type WorkerInfo = z.infer<typeof workerInfoSchema>

/** What a starting worker is doing, for a person who waits. `done` and `total` are in `unit`; total 0 means unknown. */
export const progressSchema = z.object({
  phase: z.enum(['download', 'build', 'convert', 'load']),
  label: z.string(),
  done: z.number().nonnegative(),
  total: z.number().nonnegative(),
  unit: z.enum(['bytes', 'tensors', 'steps']),
})
export type Progress = z.infer<typeof progressSchema>

/** What a worker child tells its parent over the process channel. */
export const workerMessageSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('progress'), progress: progressSchema }),
  z.object({ type: z.literal('ready'), url: z.url() }),
  z.object({ type: z.literal('failed'), code: errorCodeSchema, message: z.string() }),
])
export type WorkerMessage = z.infer<typeof workerMessageSchema>
