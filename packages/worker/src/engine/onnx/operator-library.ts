/**
 * Finds the library of quiver::Lora for this machine: an installed package with a prebuilt one, one that was compiled before,
 * or one compiled now. Without any of them the graph of standard operators serves.
 */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { type Logger, type LoraMode, type Progress, ServingError, toServingError } from '@quiver/protocol'
import type { ProcessRunner } from '../../model/process-runner.ts'
import { throwIfStopped } from '../../model/sleep.ts'
import { loadNativeLibrary } from './native-library.ts'
import { buildOperator, libraryName } from './operator-build.ts'
import { checkOperatorLibrary } from './ort.ts'

/** The interface that the worker was written for (kernels/operator/library.h has the same number). */
const OPS_INTERFACE = 3

/** A library of quiver::Lora that was loaded once and answered. */
export interface OperatorLibrary {
  readonly path: string
  /** What computes in it, e.g. `host-avx512`. */
  readonly name: string
}

export interface OperatorSearch {
  readonly mode: LoraMode
  readonly kernelsDir: string
  readonly cacheDir: string
  readonly platform: NodeJS.Platform
  readonly arch: string
  readonly jobs: number
}

export interface OperatorDeps {
  readonly runProcess: ProcessRunner
  readonly signal: AbortSignal
  readonly log: Logger
  onProgress(progress: Progress): void
}

/**
 * @returns undefined where standard operators are to apply adapters: because that is wanted, or because there is no library,
 * which is then said in one line of the log
 * @throws ServingError `invalid_request` when the operator is insisted on (`mode` operator) and is not to be had
 */
export async function findOperator(search: OperatorSearch, deps: OperatorDeps): Promise<OperatorLibrary | undefined> {
  if (search.mode === 'standard') return undefined
  try {
    const prebuilt = prebuiltLibrary(search)
    return openOperator(prebuilt ?? (await compiled(search, deps)))
  } catch (thrown) {
    throwIfStopped(deps.signal)
    const { message } = toServingError(thrown)
    if (search.mode === 'operator') {
      const advice = 'install g++ (or clang++), or start with --lora auto'
      throw new ServingError(
        'invalid_request',
        `the LoRA operator is not to be had: ${message}; ${advice}`,
        {},
        { cause: thrown },
      )
    }
    deps.log('warn', 'adapters are applied by standard operators, which takes longer', { cause: message })
    return undefined
  }
}

/** The package that would hold a library for a platform; optional, and looked up first. */
export const operatorPackage = ({ platform, arch }: Pick<OperatorSearch, 'platform' | 'arch'>): string =>
  `@quiver/ops-${platform}-${arch}`

function prebuiltLibrary(search: OperatorSearch): string | undefined {
  try {
    return join(dirname(createRequire(import.meta.url).resolve(`${operatorPackage(search)}/package.json`)), libraryName)
  } catch {
    // Not installed, which is usual.
    return undefined
  }
}

async function compiled(search: OperatorSearch, { runProcess, signal, onProgress }: OperatorDeps): Promise<string> {
  if (search.platform === 'win32') {
    throw new ServingError('not_found', 'it is not compiled on Windows')
  }
  return await buildOperator({
    ...search,
    runProcess,
    signal,
    onCompile: (done, total) => onProgress({ phase: 'build', label: 'the LoRA operator', done, total, unit: 'steps' }),
  })
}

/**
 * Loads a library, asks what it is, and whether ONNX Runtime takes it.
 * @throws ServingError `internal` when it cannot be loaded or is of another version
 */
export function openOperator(path: string): OperatorLibrary {
  try {
    const library = loadNativeLibrary(path)
    const version: unknown = library.func('QuiverOpsInterface', 'int', [])()
    if (version !== OPS_INTERFACE) {
      throw new ServingError('internal', `${path} has interface ${version}, not ${OPS_INTERFACE}: build it again`)
    }
    const name: unknown = library.func('QuiverOpsName', 'str', [])()
    if (typeof name !== 'string' || name.endsWith('-none')) {
      throw new ServingError('internal', 'QUIVER_LORA_ISA names an instruction set that this processor does not have')
    }
    checkOperatorLibrary(path)
    return { path, name }
  } catch (thrown) {
    if (thrown instanceof ServingError) throw thrown
    throw new ServingError('internal', `${path} cannot be loaded: ${String(thrown)}`, {}, { cause: thrown })
  }
}
