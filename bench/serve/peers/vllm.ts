import { existsSync } from 'node:fs'
import path from 'node:path'
import { z } from 'zod'
import type { BenchContext } from '../../bench.ts'
import { freePort } from '../../shared/process-group.ts'
import type { Contestant, Equipment } from '../contestant.ts'
import { startPeer, untilHealthy } from '../process.ts'
import { postStreamed } from '../streamed.ts'

const chunkSchema = z.object({ choices: z.array(z.object({ token_ids: z.array(z.int()).nullish() })) })
const versionSchema = z.object({ version: z.string() })
/** What vLLM's own guide for CPUs asks for; Debian's package libtcmalloc-minimal4 has it. */
const TCMALLOC = '/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4'

/** vLLM on the CPU, bfloat16, two threads. Undefined where it is not installed. */
export async function startVllm(context: BenchContext, equipment: Equipment): Promise<Contestant | undefined> {
  const file = path.join(equipment.peers, 'vllm/bin/vllm')
  const model = path.join(equipment.peers, 'model')
  if (!existsSync(path.join(equipment.peers, 'vllm/whole')) || !existsSync(path.join(model, 'whole'))) return undefined
  const port = await freePort()
  const names = equipment.adapterFolders.map((folder, index) => `a${index}=${folder}`)
  const peer = startPeer(
    {
      file,
      args: [
        ...['serve', model, '--served-model-name', 'base', '--host', '127.0.0.1', '--port', String(port)],
        ...['--dtype', 'bfloat16', '--max-model-len', '2048', '--max-num-seqs', '32', '--enforce-eager'],
        ...['--enable-lora', '--max-loras', '32', '--max-cpu-loras', '32', '--max-lora-rank', '16', '--lora-modules', ...names],
      ],
      env: {
        OMP_NUM_THREADS: String(context.config.threads),
        VLLM_CPU_OMP_THREADS_BIND: 'auto',
        VLLM_CPU_KVCACHE_SPACE: '1',
        HF_HUB_OFFLINE: '1',
        VLLM_NO_USAGE_STATS: '1',
        ...(existsSync(TCMALLOC) ? { LD_PRELOAD: TCMALLOC } : {}),
      },
    },
    context,
  )
  const url = `http://127.0.0.1:${port}`
  await untilHealthy(`${url}/health`, 'vLLM', peer, context.signal)
  const { version } = versionSchema.parse(await (await fetch(`${url}/version`)).json())
  return {
    id: 'vllm',
    title: 'vLLM (CPU, bfloat16)',
    version,
    hasOneAdapter: false,
    stream: ({ promptIds, newTokens, adapter }) =>
      postStreamed(
        `${url}/v1/completions`,
        {
          model: adapter === undefined ? 'base' : `a${adapter}`,
          prompt: promptIds,
          max_tokens: newTokens,
          ignore_eos: true,
          temperature: 0,
          stream: true,
          return_token_ids: true,
        },
        { newTokens },
        (data) => chunkSchema.parse(JSON.parse(data)).choices[0]?.token_ids?.length ?? 0,
      ),
  }
}
