/** The host kernels for arm64 against plain C++, on a processor that QEMU emulates: where a machine has the tools, whatever it is itself. */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { commonFlags, flagsOf } from '../../packages/worker/src/engine/onnx/operator-build.ts'
import { kernelsFolder } from '../support/operator-under-test.ts'
import { randomSeed } from '../support/random-seed.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const COMPILER = 'aarch64-linux-gnu-g++'
const EMULATOR = 'qemu-aarch64'
const hasTools = [COMPILER, EMULATOR].every((tool) => spawnSync(tool, ['--version']).status === 0)
/** Some twenty files. */
const TIMEOUT_MS = 300_000

const seed = randomSeed('kernels for arm64')

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  expect(status, `${command} ${args.at(-1)}: ${stdout}${stderr}`).toBe(0)
  return stdout
}

test.runIf(!hasTools)(`needs ${COMPILER} and ${EMULATOR} (g++-aarch64-linux-gnu and qemu-user)`, ({ skip }) => skip())

test.runIf(hasTools)('every set of arm64 computes as plain C++ does', { timeout: TIMEOUT_MS }, async () => {
  const folder = await temporaryFolder()
  const host = path.join(kernelsFolder, 'host')
  // The library's own file needs ONNX Runtime's functions, and no kernel is in it.
  const names = readdirSync(host).filter((name) => name.endsWith('.cc') && name !== 'host_library.cc')
  const objects = names.map((name) => {
    const object = path.join(folder, `${name}.o`)
    run(COMPILER, [...commonFlags, ...flagsOf(name, 'arm64'), '-c', path.join(host, name), '-o', object])
    return object
  })
  const program = path.join(folder, 'sets-check')
  run(COMPILER, ['-std=c++17', '-O1', '-static', path.join(import.meta.dirname, 'sets-check.cc'), ...objects, '-o', program])
  const lines = run(EMULATOR, ['-cpu', 'max', program, String(seed)])
    .trim()
    .split('\n')
  expect(lines.every((line) => line.startsWith('right '))).toBe(true)
  expect(lines.map((line) => line.replace(/:.*/, ''))).toEqual([
    'right products by neondot',
    'right products by neon',
    'right adapters by neon',
    'right attention by neon',
    'right norms and gates by neon',
  ])
})
