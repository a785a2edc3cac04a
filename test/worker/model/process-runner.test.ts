import { expect, it } from 'vitest'
import { createProcessRunner } from '../../../packages/worker/src/model/process-runner.ts'

const never = new AbortController().signal
const run = createProcessRunner({ BASE: 'base' })

it('gives exit code and output of both streams, with the environment that was asked for', async () => {
  const script = 'console.log(process.env.BASE, process.env.MORE); console.error("bad"); process.exit(3)'
  const result = await run({ command: process.execPath, args: ['-e', script], env: { MORE: 'more' }, signal: never })
  expect(result.exitCode).toBe(3)
  expect(result.output).toContain('base more')
  expect(result.output).toContain('bad')
})

it('fails with a code when the command is not there', async () => {
  await expect(run({ command: '/no/such/command', args: [], env: {}, signal: never })).rejects.toMatchObject({ code: 'ENOENT' })
})

it('kills the process when the start is called off', async () => {
  const stop = new AbortController()
  const running = run({ command: process.execPath, args: ['-e', 'setInterval(() => {}, 1000)'], env: {}, signal: stop.signal })
  setImmediate(() => stop.abort())
  await expect(running).rejects.toMatchObject({ name: 'AbortError' })
})
