import { existsSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { request } from 'undici'
import { freePorts, GuardedProcess } from './guarded-process.ts'
import { descendantsOf } from './processes.ts'
import { whenServing } from './ready-server.ts'

const peers = join(import.meta.dirname, '../../.peers')

export interface VllmServer {
  readonly url: string
  stop(): Promise<void>
}

/** A start takes half a minute on two quiet cores, and minutes on busy ones. */
const START_MS = 600_000

/**
 * The real vLLM on the default model in float32, with two places for adapters, as `bench/setup-peers.sh vllm model` installs it.
 * @throws Error when it is not installed
 */
export async function startVllm(): Promise<VllmServer> {
  const [program, model] = [join(peers, 'vllm/bin/vllm'), join(peers, 'model')]
  if (!existsSync(join(peers, 'vllm/whole')) || !existsSync(join(model, 'whole'))) {
    throw new Error('vLLM or its model is not installed: run bench/setup-peers.sh vllm model')
  }
  const folder = await mkdtemp(join(tmpdir(), 'quiver-vllm-'))
  const [port = 0] = await freePorts(1)
  const url = `http://127.0.0.1:${port}`
  const args = [
    ...['serve', model, '--served-model-name', 'smollm2-135m-instruct', '--host', '127.0.0.1', '--port', String(port)],
    ...['--dtype', 'float32', '--max-model-len', '1024', '--max-num-seqs', '8', '--enforce-eager'],
    ...['--enable-lora', '--max-loras', '2', '--max-cpu-loras', '2', '--max-lora-rank', '16'],
  ]
  const env = {
    VLLM_ALLOW_RUNTIME_LORA_UPDATING: 'True',
    VLLM_CPU_KVCACHE_SPACE: '1',
    VLLM_CPU_OMP_THREADS_BIND: 'auto',
    VLLM_NO_USAGE_STATS: '1',
    HF_HUB_OFFLINE: '1',
  }
  const server = await GuardedProcess.start({ command: program, args, folder, env })
  const isReady = async () => {
    const answer = await request(`${url}/health`).catch(() => undefined)
    await answer?.body.dump()
    return answer?.statusCode === 200
  }
  await whenServing(server, { folder, timeoutMs: START_MS, isReady })
  return {
    url,
    async stop() {
      // Its engine is a process of its own, which need not notice at once that it is alone.
      const parts = await descendantsOf(server.pid)
      await server.stop()
      for (const pid of parts) kill(pid)
    },
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended already.
  }
}
