/** `npm run test:gpu`, as far as a machine without a GPU can tell. */
import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { runGpuChecks } from '../../support/gpu-checks.ts'
import { loraCheckSources, loraChecks } from '../../support/lora-checks.ts'
import { repositoryRoot } from '../../support/repository.ts'
import { runOnShim, shimProgram } from '../../support/shim-builds.ts'

test('runs the sweep and every named check, and counts what is wrong', async () => {
  const program = await shimProgram('plain', ...loraCheckSources)
  const lines: string[] = []
  const failures = await runGpuChecks({
    seed: 7,
    // The full sweep takes the shim a while, and is run by another test; a check that does not exist stands for one that fails.
    run: (words) =>
      runOnShim(program, words[0] === 'sweep' ? ['sweep', 'small', '7'] : words[0] === 'plan' ? ['unknown'] : words),
    write: (line) => void lines.push(line),
  })
  expect(failures).toBe(1)
  expect(lines.filter((line) => line.startsWith('right'))).toHaveLength(loraChecks.length)
  expect(lines).toContainEqual(expect.stringMatching(/^ +96 cases, largest error/))
  expect(lines).toContainEqual(expect.stringMatching(/^WRONG {2}plan: /))
  expect(lines).toContainEqual(expect.stringMatching(/^ +lora-check: no check unknown/))
}, 300_000)

test('the command ends well and says that nothing was measured where no GPU answers', async () => {
  // A GPU that is there does not answer either.
  const env = { ...process.env, CUDA_VISIBLE_DEVICES: '' }
  const { stdout } = await promisify(execFile)(process.execPath, [path.join(repositoryRoot, 'scripts/test-gpu.ts')], { env })
  expect(stdout).toMatch(/^not measured: (?:no NVIDIA driver is installed|no GPU can be used|the NVIDIA driver) .+\n$/)
})
