/**
 * A worker without a model, in a process of its own: whoever asks gets the number of tokens that the request names. It speaks Quiver's
 * worker protocol for the gateway that is measured, and OpenAI's for its peers and for those who ask it directly. Tokens of streams go
 * out in steps, one for each stream and step, as those of a worker do; a step waits for nothing but a turn of the event loop.
 */
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { limits, type WorkerEvent, type WorkerInfo } from '@quiver/protocol'
import { chunkedHead, chunkOf, LAST_CHUNK, MessageCutter, type MessageHead, wholeAnswer } from './http-wire.ts'
import { STUB_MODEL } from './stub-model.ts'

const WORD = ' word'

const info: WorkerInfo = {
  workerId: 'stub',
  version: '0',
  model: { id: STUB_MODEL, sha: '0'.repeat(64), family: 'llama', dtype: 'int8', vocabSize: 49_152 },
  engine: { kind: 'stub', device: 'cpu', lora: 'none' },
  layout: { baseModel: STUB_MODEL, hiddenSize: 1, layerCount: 1, modules: [{ name: 'q_proj', inFeatures: 1, outFeatures: 1 }] },
  limits: { sequences: 1024, totalTokens: 8192, inputTokens: 8191, slots: 32, maxRank: 64, waiting: 4096 },
}

const cost = { fixedMs: 1, msPerMib: 1 }
const snapshot: WorkerEvent = {
  type: 'snapshot',
  epoch: info.workerId,
  sequence: 0,
  load: {
    state: 'ready',
    ...{ running: 0, waiting: 0, queuedTokens: 0, tokensPerSecond: 1e6, turnoverMs: 0.1, freeSlots: 32, hasSlotToGive: true },
    victim: { requestsPerSecond: 0, reloadMs: 0 },
    reload: { ram: cost, disk: cost, origin: cost },
  },
  adapters: [],
}

const accepted = `${JSON.stringify({ type: 'accepted', promptTokens: 8, queuePosition: 0 })}\n`
const tokenLine = (isLast: boolean) =>
  `${JSON.stringify({ type: 'token', id: 1234, text: WORD, logprob: -0.51, special: false, last: isLast })}\n`
const [usualToken, lastToken] = [tokenLine(false), tokenLine(true)]
const doneLine = (tokens: number) => {
  const times = { queueMs: 0.1, inferenceMs: 1, firstTokenMs: 0.5 }
  return `${JSON.stringify({ type: 'done', finishReason: 'length', generatedText: WORD.repeat(tokens), promptTokens: 8, generatedTokens: tokens, ...times })}\n`
}

const openaiHead = { id: 'chatcmpl-1', created: 1_700_000_000, model: STUB_MODEL }
const openaiChunk = (delta: object, finish_reason: string | null) =>
  `data: ${JSON.stringify({ ...openaiHead, object: 'chat.completion.chunk', choices: [{ index: 0, delta, logprobs: null, finish_reason }] })}\n\n`
const openaiToken = openaiChunk({ content: WORD }, null)
const openaiEnd = `${openaiChunk({}, 'length')}data: [DONE]\n\n`
const openaiWhole = (tokens: number) =>
  JSON.stringify({
    ...openaiHead,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: WORD.repeat(tokens), refusal: null },
        logprobs: null,
        finish_reason: 'length',
      },
    ],
    usage: { prompt_tokens: 8, completion_tokens: tokens, total_tokens: tokens + 8 },
  })

/** One stream that is being told. */
interface Telling {
  readonly socket: Socket
  readonly token: string
  readonly end: string
  left: number
}

const tellings = new Set<Telling>()
let isStepping = false

function step(): void {
  for (const telling of tellings) {
    const { socket } = telling
    if (socket.destroyed) tellings.delete(telling)
    else if (!socket.writableNeedDrain) {
      telling.left -= 1
      if (telling.left > 0) socket.write(telling.token)
      else {
        tellings.delete(telling)
        socket.write(telling.end)
      }
    }
  }
  if (tellings.size === 0) isStepping = false
  else setImmediate(step)
}

function tell(telling: Telling): void {
  tellings.add(telling)
  if (isStepping) return
  isStepping = true
  setImmediate(step)
}

/** What whole answers of so many tokens are; made once. */
const wholes = new Map<string, string>()
function once(key: string, make: () => string): string {
  const known = wholes.get(key)
  if (known !== undefined) return known
  const made = make()
  wholes.set(key, made)
  return made
}

function answer(socket: Socket, { line, head }: MessageHead, body: string): void {
  const [, path = '/'] = line.split(' ')
  if (path === '/v1/run') {
    const tokens = Number(/"maxNewTokens":(\d+)/.exec(body)?.[1] ?? 1)
    // Quiver's protocol streams always; what is marked so is told in one piece, for whole answers.
    const whole = () =>
      chunkedHead('application/x-ndjson') +
      chunkOf(accepted + usualToken.repeat(tokens - 1) + lastToken + doneLine(tokens)) +
      LAST_CHUNK
    if (!body.includes('"requestId":"stream')) {
      socket.write(once(`run ${tokens}`, whole))
      return
    }
    socket.write(chunkedHead('application/x-ndjson') + chunkOf(accepted))
    const end = once(`end ${tokens}`, () => chunkOf(lastToken + doneLine(tokens)) + LAST_CHUNK)
    tell({ socket, token: chunkOf(usualToken), end, left: tokens })
  } else if (path === '/v1/chat/completions') {
    const tokens = Number(/"max_tokens": ?(\d+)/.exec(body)?.[1] ?? 1)
    if (!/"stream": ?true/.test(body)) {
      socket.write(once(`chat ${tokens}`, () => wholeAnswer(openaiWhole(tokens))))
      return
    }
    socket.write(chunkedHead('text/event-stream') + chunkOf(openaiChunk({ role: 'assistant', content: '' }, null)))
    tell({ socket, token: chunkOf(openaiToken), end: chunkOf(openaiToken + openaiEnd) + LAST_CHUNK, left: tokens })
  } else if (path === '/v1/events') {
    socket.write(chunkedHead('application/x-ndjson') + chunkOf(`${JSON.stringify(snapshot)}\n`))
    const beat = setInterval(() => socket.write(chunkOf('\n')), limits.eventHeartbeatMs)
    socket.once('close', () => clearInterval(beat))
  } else socket.write(wholeAnswer(JSON.stringify(path === '/v1/info' ? info : otherAnswer(path))))
  if (head.includes('connection: close')) socket.end()
}

/** What the gateway asks beside runs, and what the peers ask before they send anything. */
function otherAnswer(path: string): object {
  if (path === '/v1/models') return { object: 'list', data: [{ id: STUB_MODEL, object: 'model', created: 1, owned_by: 'stub' }] }
  if (path.endsWith('info')) return { model_path: STUB_MODEL, served_model_name: STUB_MODEL, is_generation: true }
  if (path.startsWith('/v1/adapters')) return { adapters: [], slotsWanted: 0 }
  return { status: 'serving' }
}

const server = createServer({ noDelay: true }, (socket) => {
  let head: MessageHead | undefined
  let body: Buffer[] = []
  const cutter = new MessageCutter({
    head: (next) => {
      head = next
    },
    body: (bytes) => body.push(bytes),
    end: () => {
      if (head !== undefined) answer(socket, head, body.length === 1 ? String(body[0]) : Buffer.concat(body).toString())
      body = []
    },
  })
  socket.on('data', (bytes: Buffer) => cutter.push(bytes))
  socket.on('error', () => socket.destroy())
})
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo
  process.send?.({ url: `http://127.0.0.1:${port}` })
})
process.once('disconnect', () => process.exit(0))
