/**
 * `npm run test:gpu`: compiles the checks of the CUDA kernels by nvcc for this machine's GPU and runs them there, then the engine on golden
 * cases, for which `quiver cuda install` and `npm run build:cuda` must have been run. Where no GPU answers
 * it says so in one sentence and ends well: nothing was measured, and nothing is claimed. SEED repeats a sweep.
 */
import { execFile } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { cudaFolder } from '../packages/worker/src/cuda/cuda-install.ts'
import { hasLibrary, missingGpu, runtimeVersion } from '../packages/worker/src/cuda/driver.ts'
import { findDevice } from '../packages/worker/src/cuda/find-cuda.ts'
import { checkedAdapters, wrongAnswers } from '../test/support/device-checks.ts'
import { openGoldenEngine } from '../test/support/golden-engine.ts'
import { type CheckRun, runGpuChecks } from '../test/support/gpu-checks.ts'
import { loraCheckSources } from '../test/support/lora-checks.ts'
import { cacheFolder } from '../test/support/quiver-server.ts'

const root = path.join(import.meta.dirname, '..')
const OUTPUT_BYTES = 64 << 20
const ENGINE_TOKENS = 16
const run = promisify(execFile)

async function compile(folder: string): Promise<string> {
  const nvcc = (await run(path.join(root, 'kernels/cuda/build.sh'), ['nvcc'])).stdout.trim()
  const program = path.join(folder, 'lora-check')
  const flags = ['-std=c++17', '-O3', '-arch=native', '-Ikernels', '-cudart', 'static']
  await run(nvcc, [...flags, '-o', program, ...loraCheckSources], { cwd: root, maxBuffer: OUTPUT_BYTES })
  return program
}

function runProgram(program: string, words: readonly string[]): Promise<CheckRun> {
  return new Promise((resolve) => {
    execFile(program, words, { maxBuffer: OUTPUT_BYTES }, (error, stdout, stderr) => {
      const exitCode = error === null ? 0 : typeof error.code === 'number' ? error.code : 128
      resolve({ exitCode, output: `${stdout}${stderr}` })
    })
  })
}

/** The engine on the GPU in each of its types, where everything that it needs is installed. @returns how many of them were wrong */
async function checkEngine(write: (line: string) => void): Promise<number> {
  let wrong = 0
  for (const dtype of ['fp16', 'bf16'] as const) {
    try {
      const { backend, operator } = await findDevice(
        {
          choice: 'cuda',
          dtype,
          lora: 'auto',
          cudaDir: cudaFolder(cacheFolder()),
          kernelsLibrary: path.join(root, 'kernels/build/cuda/libquiver_lora_cuda.so'),
        },
        { log: (_level, message) => write(message), missingGpu, hasLibrary, runtimeVersion: runtimeVersion() },
      )
      if (backend === undefined || operator === undefined) throw new Error('no device was found')
      const engine = await openGoldenEngine(operator, checkedAdapters, { dtype, backend })
      const lines = await wrongAnswers(engine, ENGINE_TOKENS)
      await engine.close()
      write(`${lines.length === 0 ? 'right' : 'WRONG'}  engine ${dtype}: answers golden cases of the base and of four adapters`)
      for (const line of lines) write(`       ${line}`)
      if (lines.length > 0) wrong += 1
    } catch (error) {
      wrong += 1
      write(`WRONG  engine ${dtype}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  return wrong
}

async function main(): Promise<number> {
  const write = (line: string): void => void process.stdout.write(`${line}\n`)
  const missing = missingGpu()
  if (missing !== undefined) {
    write(`not measured: ${missing}`)
    return 0
  }
  const seed = Number(process.env['SEED'] ?? randomInt(2 ** 31))
  write(`CUDA kernels on this machine's GPU, SEED=${seed}`)
  const folder = await mkdtemp(path.join(tmpdir(), 'quiver-gpu-'))
  try {
    const program = await compile(folder)
    const kernels = await runGpuChecks({ seed, run: (words) => runProgram(program, words), write })
    const failures = kernels + (await checkEngine(write))
    write(failures === 0 ? 'all right' : `${failures} failed`)
    return failures === 0 ? 0 : 1
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`test:gpu: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
