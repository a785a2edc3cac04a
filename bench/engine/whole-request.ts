/**
 * One request through gateway and worker, against an engine in this process that computes the very same tokens: the prompt
 * in one run, then every token that the server chose. They take turns, with a pause in which the other's threads go to sleep.
 */
import { strict as assert } from 'node:assert'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { type AdapterDigest, BASE_SLOT, type SlotIndex } from '@quiver/protocol'
import { readAdapter } from '../../packages/cache/src/format/inspect.ts'
import { packAdapter } from '../../packages/cache/src/format/pack.ts'
import type { Engine } from '../../packages/worker/src/engine/engine.ts'
import { packedDtype } from '../../packages/worker/src/engine/onnx/onnx-engine.ts'
import { baseLayout } from '../../packages/worker/src/model/model-spec.ts'
import { createTokenizer } from '../../packages/worker/src/tokenizer/create-tokenizer.ts'
import type { Tokenizer } from '../../packages/worker/src/tokenizer/tokenizer.ts'
import type { BenchContext } from '../bench.ts'
import { type Figure, measured } from '../shared/figure.ts'
import { interleave, Samples, timed } from '../shared/interleave.ts'
import { seededRandom } from '../shared/random.ts'
import { ratioOfMedians, summarise } from '../shared/statistics.ts'
import { EngineDriver } from './engine-driver.ts'
import { generate, generatedTokens } from './generate-client.ts'
import { openEngine } from './opened-model.ts'
import type { ServedAdapters } from './served-adapters.ts'

const PROMPT_TOKENS = 70
const NEW_TOKENS = 10
const PAUSE_MS = 25
const WARM_UP_ROUNDS = 2
const SLOT = 0 as SlotIndex

const subjects = { base: 'base model', adapter: 'adapter of rank 16' } as const
type Subject = keyof typeof subjects
type Side = 'gateway' | 'engine'

export async function measureWholeRequest(context: BenchContext, served: ServedAdapters): Promise<Figure[]> {
  const { dtype, maxRank } = context.config
  const { signal } = context
  const { engine, model, close } = await openEngine(context, { dtype, maxRank, slots: 1, sequences: 1 })
  const folder = served.names[0] ?? ''
  await loadFolder(engine, path.join(served.root, folder), context)
  const tokenizer = createTokenizer(model.tokenizerFiles, { wallClockMs: () => 0 })
  const inputs = promptOf(tokenizer, PROMPT_TOKENS)
  const promptIds = tokenizer.encode(inputs)
  const requestOf = (subject: Subject) => ({
    url: served.url,
    inputs,
    newTokens: NEW_TOKENS,
    adapter: subject === 'adapter' ? folder : undefined,
    signal,
  })
  const random = seededRandom(context.seed)
  const driver = new EngineDriver(engine, random)
  const answers = new Map<Subject, readonly number[]>()
  for (const subject of ['base', 'adapter'] as const) {
    const { promptTokens, ids } = await generatedTokens(requestOf(subject))
    assert(promptTokens === PROMPT_TOKENS && ids.length === NEW_TOKENS, 'the server computes the tokens that were meant')
    answers.set(subject, ids)
  }
  const inference = new Samples<Subject>()
  const run = async (name: `${Side} ${Subject}`, isCounted: boolean): Promise<number> => {
    const [side, subject] = name.split(' ') as [Side, Subject]
    await wait(PAUSE_MS)
    if (side === 'engine') return await timed(() => replay(driver, subject, promptIds, answers.get(subject) ?? []))
    return await timed(async () => {
      const response = await generate(requestOf(subject))
      await response.arrayBuffer()
      if (isCounted) inference.add(subject, Number(response.headers.get('x-inference-time')))
    })
  }
  const rounds = (context.quick ? 5 : 25) + WARM_UP_ROUNDS
  context.progress(`whole requests: ${rounds} each`)
  const samples = await interleave(
    ['gateway base', 'engine base', 'gateway adapter', 'engine adapter'] as const,
    { rounds, random, signal },
    async (name, round) => {
      const time = await run(name, round >= WARM_UP_ROUNDS)
      return round < WARM_UP_ROUNDS ? undefined : time
    },
  )
  await close()
  return (['base', 'adapter'] as const).flatMap((subject) => figuresOf(subject, samples, inference))
}

/** The engine's part of a request: the last token that is answered is never computed. */
async function replay(driver: EngineDriver, subject: Subject, prompt: readonly number[], ids: readonly number[]): Promise<void> {
  const slot = subject === 'base' ? BASE_SLOT : SLOT
  await driver.prompt(prompt, slot)
  for (const id of ids.slice(0, -1)) await driver.decode(() => slot, [id])
  driver.releaseAll()
}

function figuresOf(subject: Subject, samples: Samples<`${Side} ${Subject}`>, inference: Samples<Subject>): Figure[] {
  const group = `A whole request, ${PROMPT_TOKENS} tokens in, ${NEW_TOKENS} out`
  const name = subjects[subject]
  const gateway = samples.of(`gateway ${subject}`)
  const engine = samples.of(`engine ${subject}`)
  const figure = (id: string, label: string) => ({ id: `request.${subject}.${id}`, group, label: `${name}: ${label}` })
  return [
    measured({ ...figure('gateway', 'over HTTP, through the gateway'), unit: 'ms' }, summarise(gateway)),
    measured({ ...figure('worker', 'inference as the worker reports it'), unit: 'ms' }, summarise(inference.of(subject))),
    measured({ ...figure('engine', 'the engine alone, same tokens'), unit: 'ms' }, summarise(engine)),
    {
      ...figure('ratio', 'over HTTP ÷ the engine alone'),
      unit: 'x',
      value: ratioOfMedians(gateway, engine),
      target: { at: 'most', value: 1.3 },
    },
  ]
}

/** Puts a PEFT folder into slot 0, as the cache would. */
async function loadFolder(engine: Engine, folder: string, { config }: BenchContext): Promise<void> {
  const layout = baseLayout(engine.model)
  const read = async (name: string) => new Uint8Array(await readFile(path.join(folder, name)))
  const files = { config: await read('adapter_config.json'), weights: await read('adapter_model.safetensors') }
  const valid = await readAdapter(files, layout, config.maxRank)
  const target = { digest: '0'.repeat(64) as AdapterDigest, layout, dtype: packedDtype(config.dtype) }
  await engine.loadAdapter(SLOT, (await packAdapter(valid, target)).adapter)
}

/** A text of exactly so many tokens, of words that are one token each in nearly every vocabulary. */
export function promptOf(tokenizer: Pick<Tokenizer, 'encode'>, tokens: number): string {
  const words = 'the model reads a long text and writes down what comes next in it'.split(' ')
  let text = 'Once'
  for (let i = 0; tokenizer.encode(text).length < tokens; i += 1) text += ` ${words[i % words.length]}`
  assert(tokenizer.encode(text).length === tokens, `the model's tokenizer makes no prompt of ${tokens} tokens from plain words`)
  return text
}
