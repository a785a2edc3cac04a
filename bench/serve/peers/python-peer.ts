/**
 * A library that is called in its own process, not over HTTP: a Python program that reads requests as lines of JSON and writes a
 * line for each token. That spares it a server's work.
 */
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'
import type { BenchContext } from '../../bench.ts'
import type { Answered, Ask, Contestant, Equipment } from '../contestant.ts'
import { startPeer } from '../process.ts'

/** `ready` comes first. Then, for a request, how many tokens have come. */
const lineSchema = z.union([z.object({ ready: z.string() }), z.object({ id: z.int(), tokens: z.int().positive() })])

interface PythonPeer {
  readonly id: string
  readonly title: string
  /** Folder of its virtual environment under `.peers`. */
  readonly environment: string
  /** Folder of the model under `.peers`. */
  readonly model: string
  readonly script: string
  readonly hasOneAdapter: boolean
}

interface Waiting {
  readonly startedAtMs: number
  readonly newTokens: number
  firstTokenMs: number
  tokens: number
  resolve(answered: Answered): void
  reject(error: unknown): void
}

export const openVinoPeer: PythonPeer = {
  id: 'openvino',
  title: 'OpenVINO GenAI (int8, in process)',
  environment: 'openvino',
  model: 'model-openvino',
  script: 'openvino_peer.py',
  hasOneAdapter: true,
}

export const peftPeer: PythonPeer = {
  id: 'peft',
  title: 'transformers and PEFT (float32, mixed batches, in process)',
  environment: 'peft',
  model: 'model',
  script: 'peft_peer.py',
  hasOneAdapter: false,
}

/** Undefined where it is not installed. */
export async function startPythonPeer(
  peer: PythonPeer,
  context: BenchContext,
  equipment: Equipment,
): Promise<Contestant | undefined> {
  const model = path.join(equipment.peers, peer.model)
  const isThere = [path.join(equipment.peers, peer.environment), model].every((folder) => existsSync(path.join(folder, 'whole')))
  if (!isThere) return undefined
  const process = startPeer(
    {
      file: path.join(equipment.peers, peer.environment, 'bin/python'),
      args: [path.join(import.meta.dirname, peer.script), model, String(context.config.threads), ...equipment.adapterFolders],
      env: { HF_HUB_OFFLINE: '1' },
    },
    context,
  )
  const { stdin, stdout } = process.child
  if (stdin === null || stdout === null) throw new ServingError('internal', `${peer.title} has no pipes`)
  const waiting = new Map<number, Waiting>()
  const ready = Promise.withResolvers<string>()
  createInterface({ input: stdout }).on('line', (text) => {
    const line = lineSchema.safeParse(parsed(text)).data
    if (line === undefined) return
    if ('ready' in line) ready.resolve(line.ready)
    else take(waiting, line.id, line.tokens)
  })
  void once(process.child, 'close').then(() => {
    const error = new ServingError('internal', `${peer.title} ended:\n${process.output()}`)
    ready.reject(error)
    for (const { reject } of waiting.values()) reject(error)
  })
  const version = await ready.promise
  let lastId = 0
  const { id, title, hasOneAdapter } = peer
  return {
    id,
    title,
    version,
    hasOneAdapter,
    stream: (ask) =>
      new Promise((resolve, reject) => {
        lastId += 1
        const startedAtMs = performance.now()
        waiting.set(lastId, { startedAtMs, newTokens: ask.newTokens, firstTokenMs: Number.NaN, tokens: 0, resolve, reject })
        stdin.write(`${lineOf(lastId, ask)}\n`)
      }),
  }
}

function lineOf(id: number, { promptIds, newTokens, adapter }: Ask): string {
  return JSON.stringify({ id, prompt: promptIds, new_tokens: newTokens, adapter: adapter ?? null })
}

function take(waiting: Map<number, Waiting>, id: number, tokens: number): void {
  const request = waiting.get(id)
  if (request === undefined) return
  const nowMs = performance.now() - request.startedAtMs
  if (request.tokens === 0) request.firstTokenMs = nowMs
  request.tokens += tokens
  if (request.tokens < request.newTokens) return
  waiting.delete(id)
  request.resolve({ firstTokenMs: request.firstTokenMs, endMs: nowMs })
}

/** Libraries write other things to their standard output as well. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
