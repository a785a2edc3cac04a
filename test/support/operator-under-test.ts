import { availableParallelism } from 'node:os'
import path from 'node:path'
import { ServingError } from '../../packages/protocol/src/index.ts'
import { buildOperator } from '../../packages/worker/src/engine/onnx/operator-build.ts'
import { type OperatorLibrary, openOperator } from '../../packages/worker/src/engine/onnx/operator-library.ts'
import { createProcessRunner } from '../../packages/worker/src/model/process-runner.ts'
import { cacheFolder } from './quiver-server.ts'

export const kernelsFolder: string = path.join(import.meta.dirname, '../../kernels')
/** Title of the one skipped test that stands for all that need the operator, where it cannot be compiled. */
export const NEEDS_COMPILER = 'needs a C++ compiler, g++ or clang++, which this machine does not have'

/**
 * Path of the operator's library as it is now, compiled where the cache does not have it.
 * @returns undefined where there is no compiler; sources that a compiler refuses are an error
 */
export async function builtOperator(extraFlags: readonly string[] = []): Promise<string | undefined> {
  try {
    return await buildOperator({
      kernelsDir: kernelsFolder,
      cacheDir: path.join(cacheFolder(), 'operators'),
      arch: process.arch,
      jobs: availableParallelism(),
      extraFlags,
      runProcess: createProcessRunner(process.env),
      signal: new AbortController().signal,
      onCompile: () => {},
    })
  } catch (error) {
    if (error instanceof ServingError && error.code === 'not_found') return undefined
    throw error
  }
}

/** The same, loaded. */
export async function operatorUnderTest(): Promise<OperatorLibrary | undefined> {
  const built = await builtOperator()
  return built === undefined ? undefined : openOperator(built)
}
