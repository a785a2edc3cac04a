/**
 * Every promise of contract.md, kept to the real clients by one running server. All clients work at once, as they do in service, so
 * that their requests share steps; each check is a test by its own name.
 */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { pythonWith } from '../support/python-venv.ts'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'
import { curlAt, type Outcome, runChecks } from './check.ts'
import { clientOf, readContract } from './contract.ts'
import { answerChecks } from './curl-answers.ts'
import { errorChecks } from './curl-errors.ts'
import { openaiChecks } from './curl-openai.ts'
import { parameterChecks } from './curl-parameters.ts'
import { routeChecks } from './curl-routes.ts'
import { openaiTypescriptChecks } from './openai-typescript.ts'

const scripts = ['lorax-client.py', 'hub-client.py', 'openai-client.py']
const clients = new Set(['lorax', 'hub', 'openai-py', 'openai-ts', 'curl'])
const rows = readContract()
  .map((row) => ({ ...row, checks: row.checks.filter((check) => clients.has(clientOf(check))) }))
  .filter(({ checks }) => checks.length > 0)

const lineSchema = z.object({ check: z.string(), fault: z.string().nullable() })
const outcomes = new Map<string, Outcome>()
const told = (name: string, outcome: Outcome) => {
  if (outcomes.has(name)) throw new Error(`two checks are called ${name}`)
  outcomes.set(name, outcome)
}

/** Runs a client's script; its standard error is ours. @throws Error when it ends with a failure of its own */
async function runScript(python: string, script: string, url: string): Promise<void> {
  const child = spawn(python, [join(import.meta.dirname, script), url], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  for await (const line of createInterface(child.stdout)) {
    const { check, fault } = lineSchema.parse(JSON.parse(line))
    told(check, fault ?? undefined)
  }
  const code = await ended
  if (code !== 0) throw new Error(`${script} ended with ${code}`)
}

let server: QuiverServer
beforeAll(async () => {
  // fp32 gives PEFT's tokens to the last; int8 may part from them where two are nearly equal.
  const [python, started] = await Promise.all([
    pythonWith('test/conformance/requirements.txt'),
    startQuiver({ env: { QUIVER_DTYPE: 'fp32' } }),
  ])
  server = started
  const { url } = server
  const curl = curlAt(url)
  const byCurl = [routeChecks, parameterChecks, answerChecks, errorChecks, openaiChecks].flatMap((checks) => checks(curl))
  await Promise.all([
    ...scripts.map((script) => runScript(python, script, url)),
    runChecks(openaiTypescriptChecks(url), { atOnce: 6, told }),
    runChecks(byCurl, { atOnce: 6, told }),
  ])
}, 600_000)
afterAll(() => server?.stop())

describe.each(rows)('$section: $promise', ({ checks }) => {
  test.each(checks)('%s', (name) => {
    expect(outcomes.has(name), `no client has the check ${name}`).toBe(true)
    expect(outcomes.get(name)).toBeUndefined()
  })
})

test('every check belongs to a row of the contract', () => {
  const named = new Set(rows.flatMap(({ checks }) => checks))
  process.stdout.write(`${outcomes.size} checks by ${clients.size} clients for ${rows.length} rows of the contract\n`)
  expect([...outcomes.keys()].filter((name) => !named.has(name))).toEqual([])
})
