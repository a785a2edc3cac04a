/** What stands between the load and the stub: nothing, Quiver's gateway, or one of its peers. */
import { access, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from '../shared/clean-up.ts'
import { freePort, untilReady } from '../shared/process-group.ts'
import { quiverArguments } from '../shared/quiver-process.ts'
import { type PinnedOptions, type Surroundings, startPinned } from './pinned-process.ts'
import { STUB_MODEL } from './stub-model.ts'

/** Where bench/setup-peers.sh installs what Quiver is compared with. */
const PEERS = fileURLToPath(new URL('../../.peers/gateway', import.meta.url))
const START_SECONDS = 120

export type SubjectName = 'direct' | 'quiver' | 'sglang-router' | 'litellm'

/** One that can be sent chat completions. */
export interface Subject {
  readonly name: SubjectName
  readonly url: string
  stop(): Promise<void>
}

export interface SubjectPlace extends Surroundings {
  /** The processor that it may use. */
  readonly processor: number
  readonly stubUrl: string
}

export const peerNames = ['sglang-router', 'litellm'] as const
export type PeerName = (typeof peerNames)[number]

/** Quiver's gateway as one process, with a catalogue that is empty and no Redis. */
export async function startGateway(place: SubjectPlace): Promise<Subject> {
  const { env, cleanUp, stubUrl, signal } = place
  const folder = await temporaryFolder(cleanUp)
  const port = await freePort()
  const outside = Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('QUIVER_')))
  const settings = {
    QUIVER_PORT: String(port),
    QUIVER_WORKERS: stubUrl,
    QUIVER_DATA: folder,
    QUIVER_DROP_INTERVAL_MS: '0',
    QUIVER_DRAIN_DELAY_MS: '0',
  }
  const args = [...(await quiverArguments()), 'gateway']
  const pinned = startPinned({ ...place, command: process.execPath, args, env: { ...outside, ...settings } })
  const url = `http://127.0.0.1:${port}`
  await untilReady('the gateway', pinned, { seconds: START_SECONDS, signal }, async () => (await fetch(`${url}/health`)).ok)
  return { name: 'quiver', url, stop: pinned.stop }
}

/** @returns undefined when it is not installed */
export async function startPeer(name: PeerName, place: SubjectPlace): Promise<Subject | undefined> {
  const command = path.join(PEERS, 'bin', name)
  const isThere = await access(command).then(
    () => true,
    () => false,
  )
  if (!isThere) return undefined
  const port = await freePort()
  const { args, env } = name === 'litellm' ? await litellm(place, port) : await sglangRouter(place, port)
  const pinned = startPinned({ ...place, command, args, env: { ...place.env, ...env } })
  const url = `http://127.0.0.1:${port}`
  // Ready is who answers; some say that they are well before that.
  await untilReady(name, pinned, { seconds: START_SECONDS, signal: place.signal }, async () => {
    const body = JSON.stringify(chat({ tokens: 1, stream: false }))
    const answer = await fetch(`${url}/v1/chat/completions`, { method: 'POST', headers: { ...json, ...peerHeaders(name) }, body })
    await answer.arrayBuffer()
    return answer.status === 200
  })
  return { name, url, stop: pinned.stop }
}

const LITELLM_KEY = 'sk-bench'
const json = { 'content-type': 'application/json' }

/** What a subject wants beside the body. */
export function peerHeaders(name: SubjectName): Record<string, string> {
  return name === 'litellm' ? { authorization: `Bearer ${LITELLM_KEY}` } : {}
}

/** A chat completion of exactly so many tokens, in a form that all subjects take. */
export function chat({ tokens, stream }: { readonly tokens: number; readonly stream: boolean }): object {
  const messages = [{ role: 'user', content: 'Say something short about the weather in a town by the sea.' }]
  return { model: STUB_MODEL, messages, max_tokens: tokens, temperature: 0, stream }
}

type Start = Pick<PinnedOptions, 'args' | 'env'>

async function sglangRouter({ stubUrl }: SubjectPlace, port: number): Promise<Start> {
  const metricsPort = await freePort()
  const where = ['--worker-urls', stubUrl, '--host', '127.0.0.1', '--port', String(port)]
  const more = ['--policy', 'round_robin', '--prometheus-port', String(metricsPort), '--log-level', 'warn']
  return { args: ['launch', ...where, ...more], env: {} }
}

/** One worker process; it asks for no list of prices on the network. */
async function litellm({ stubUrl, cleanUp }: SubjectPlace, port: number): Promise<Start> {
  const file = path.join(await temporaryFolder(cleanUp), 'litellm.json')
  const params = { model: `openai/${STUB_MODEL}`, api_base: `${stubUrl}/v1`, api_key: 'none' }
  // YAML is a superset of JSON.
  await writeFile(file, JSON.stringify({ model_list: [{ model_name: STUB_MODEL, litellm_params: params }] }))
  return {
    args: ['--config', file, '--host', '127.0.0.1', '--port', String(port), '--num_workers', '1'],
    env: { LITELLM_MASTER_KEY: LITELLM_KEY, LITELLM_LOCAL_MODEL_COST_MAP: 'True', LITELLM_LOG: 'ERROR' },
  }
}
