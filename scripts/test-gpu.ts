/**
 * `npm run test:gpu`: compiles the checks of the CUDA kernels by nvcc for this machine's GPU and runs them there. Where no GPU answers
 * it says so in one sentence and ends well: nothing was measured, and nothing is claimed. SEED repeats a sweep.
 */
import { execFile } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import koffi from 'koffi'
import { type CheckRun, runGpuChecks } from '../test/support/gpu-checks.ts'
import { loraCheckSources } from '../test/support/lora-checks.ts'

const root = path.join(import.meta.dirname, '..')
const OUTPUT_BYTES = 64 << 20
const run = promisify(execFile)

/** Asked of the driver itself, so that no compiler is fetched for nothing. @returns why no GPU can be used, or undefined */
function missingGpu(): string | undefined {
  try {
    const driver = koffi.load(process.platform === 'win32' ? 'nvcuda.dll' : 'libcuda.so.1')
    const started: unknown = driver.func('int cuInit(unsigned int flags)')(0)
    if (started !== 0) return `no GPU can be used here (cuInit answers ${started})`
    const count = [0]
    const counted: unknown = driver.func('int cuDeviceGetCount(_Out_ int *count)')(count)
    return counted === 0 && (count[0] ?? 0) > 0 ? undefined : 'the NVIDIA driver here knows no GPU'
  } catch {
    return 'no NVIDIA driver is installed here'
  }
}

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
    const failures = await runGpuChecks({ seed, run: (words) => runProgram(program, words), write })
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
