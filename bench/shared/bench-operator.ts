import path from 'node:path'
import type { LoraMode } from '@quiver/protocol'
import { findOperator, type OperatorLibrary } from '../../packages/worker/src/engine/onnx/operator-library.ts'
import { createProcessRunner } from '../../packages/worker/src/model/process-runner.ts'
import type { BenchContext } from '../bench.ts'

/** Finds or compiles quiver::Lora as a worker does. */
export function benchOperator(context: BenchContext, mode: LoraMode): Promise<OperatorLibrary | undefined> {
  const { config, env, signal, progress } = context
  return findOperator(
    {
      mode,
      kernelsDir: path.join(import.meta.dirname, '../../kernels'),
      cacheDir: path.join(config.cache, 'operators'),
      platform: process.platform,
      arch: process.arch,
      jobs: config.threads,
    },
    {
      runProcess: createProcessRunner(env),
      signal,
      log: (_level, message, details) => progress(`${message}: ${details?.['cause']}`),
      onProgress: ({ done }) => {
        if (done === 0) progress('compiling the LoRA operator')
      },
    },
  )
}
