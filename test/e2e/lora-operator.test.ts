/** What applies adapters in a server as it is started: our own operator where a compiler is, standard operators where not. */
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { z } from 'zod'
import { post } from '../support/gateway-under-test.ts'
import { type GoldenCase, goldenCases } from '../support/golden.ts'
import { NEEDS_COMPILER, operatorUnderTest } from '../support/operator-under-test.ts'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'

const operator = await operatorUnderTest()
const infoSchema = z.object({ engine: z.object({ lora: z.string() }) })
const golden = goldenCases.find(({ adapter }) => adapter === 'text-to-sql') as GoldenCase

async function start(env: Readonly<Record<string, string>> = {}): Promise<QuiverServer> {
  const server = await startQuiver({ env })
  onTestFinished(async () => void (await server.stop()))
  return server
}

async function appliedBy({ url }: QuiverServer): Promise<string> {
  return infoSchema.parse(await (await fetch(`${url}/info`)).json()).engine.lora
}

async function expectGolden({ url }: QuiverServer): Promise<void> {
  const parameters = { adapter_id: golden.adapter, max_new_tokens: golden.token_ids.length }
  expect((await post(`${url}/generate`, { inputs: golden.prompt, parameters })).json).toEqual({ generated_text: golden.text })
}

test.runIf(operator === undefined)(`our own operator: ${NEEDS_COMPILER}`, ({ skip }) => skip())

test.runIf(operator !== undefined)('a start where a C++ compiler is uses our own operator and says so', async () => {
  const server = await start()
  expect(await appliedBy(server)).toBe(operator?.name)
  expect(server.process.output).toContain(`adapters by ${operator?.name})`)
  await expectGolden(server)
})

test('a start without a C++ compiler serves adapters by standard operators and says so in one line', async () => {
  // Node alone: no g++, no clang++.
  const server = await start({ PATH: path.dirname(process.execPath) })
  expect(await appliedBy(server)).toBe('standard')
  const said = server.process.output.split('\n').filter((line) => line.includes('standard operators'))
  expect(said).toHaveLength(1)
  expect(said[0]).toMatch(/ warn adapters are applied by standard operators.*there is no C\+\+ compiler/)
  await expectGolden(server)
})
