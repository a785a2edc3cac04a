/** Adapters that do not fit are refused with the reason, and the next request is served. */
import { cp, mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BaseLayout } from '@quiver/protocol'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type AdapterOptions, buildAdapter } from '../support/adapter-files.ts'
import { eventsOf, post } from '../support/gateway-under-test.ts'
import { goldenCases } from '../support/golden.ts'
import { type QuiverServer, startQuiver } from '../support/quiver-server.ts'
import { smollm2Layout } from '../support/smollm2-layout.ts'

const examples = join(import.meta.dirname, '../../examples/adapters')
let root: string
let server: QuiverServer

/** Shapes of a larger model. */
const otherLayout: BaseLayout = {
  ...smollm2Layout,
  baseModel: 'other/base',
  hiddenSize: 960,
  modules: smollm2Layout.modules.map((module) => ({ ...module, inFeatures: 960 })),
}

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'quiver-roots-'))
  await write('wrong-base', { layout: otherLayout })
  await write('layer-missing', { layers: [...Array(29).keys()] })
  await write('unknown-module', {
    layout: {
      ...smollm2Layout,
      modules: [...smollm2Layout.modules, { name: 'qq_proj' as never, inFeatures: 576, outFeatures: 576 }],
    },
    targets: ['q_proj', 'qq_proj'],
  })
  await write('dora', { config: { use_dora: true } })
  await write('rank-too-big', { rank: 65 })
  await cp(join(examples, 'shout'), join(root, 'shout'), { recursive: true })
  await cp(join(examples, 'shout'), join(root, 'truncated'), { recursive: true })
  await truncate(join(root, 'truncated/adapter_model.safetensors'), 100_000)
  await cp(join(examples, 'shout'), join(root, 'pickle'), { recursive: true })
  // The first bytes of what torch.save writes: a zip archive with a pickle in it.
  await writeFile(
    join(root, 'pickle/adapter_model.safetensors'),
    Buffer.concat([Buffer.from('PK\x03\x04'), Buffer.alloc(1000, 0x80)]),
  )
  await cp(join(examples, 'shout'), join(root, 'only-a-pickle'), { recursive: true })
  await rm(join(root, 'only-a-pickle/adapter_model.safetensors'))
  await writeFile(join(root, 'only-a-pickle/adapter_model.bin'), Buffer.from([0x80, 0x02]))
  await mkdir(join(root, 'empty'))
  server = await startQuiver({ env: { QUIVER_LOCAL_ROOTS: root } })
})
afterAll(async () => {
  await server?.stop()
  await rm(root, { recursive: true })
})

async function write(name: string, options: AdapterOptions): Promise<void> {
  const { config, weights } = buildAdapter({ layout: smollm2Layout, ...options })
  await mkdir(join(root, name))
  await writeFile(join(root, name, 'adapter_config.json'), config)
  await writeFile(join(root, name, 'adapter_model.safetensors'), weights)
}

const shout = goldenCases.find(({ adapter }) => adapter === 'shout')
const body = (adapter_id: string) => ({
  inputs: shout?.prompt ?? '',
  parameters: { adapter_id, adapter_source: 'local', max_new_tokens: 20 },
})

test.each([
  ['wrong-base', /960/],
  ['layer-missing', /29/],
  ['unknown-module', /qq_proj/],
  ['dora', /use_dora/],
  ['rank-too-big', /65[\s\S]*64|64[\s\S]*65/],
  ['truncated', /adapter_model\.safetensors|bytes/],
  ['pickle', /safetensors|header/],
  ['only-a-pickle', /pickle/],
  ['empty', /no adapter at "empty"/],
  ['nowhere', /nowhere/],
])('%s is refused with its reason, whole and streamed, and the next request is served', async (name, reason) => {
  const answer = await post(`${server.url}/generate`, body(name))
  expect([answer.status, answer.json]).toEqual([424, { error: expect.stringMatching(reason), error_type: 'generation' }])
  expect(answer.text).toContain('Request failed during generation: Server error: ')
  expect(answer.text).not.toContain(root)
  const stream = await post(`${server.url}/generate_stream`, body(name))
  expect([stream.status, eventsOf(stream.text)]).toEqual([200, [expect.objectContaining({ error_type: 'generation' })]])
  const next = await post(`${server.url}/generate`, body('shout'))
  expect(next.json).toEqual({ generated_text: shout?.text })
})

test('a path under a root may be absolute or relative, and has the digest of the same content published', async () => {
  const published = await post(`${server.url}/generate`, {
    ...body('shout'),
    parameters: { adapter_id: 'shout', max_new_tokens: 20 },
  })
  for (const id of ['shout', join(root, 'shout')]) {
    const local = await post(`${server.url}/generate`, body(id))
    expect(local.json).toEqual({ generated_text: shout?.text })
    expect(local.headers['x-adapter-digest']).toBe(published.headers['x-adapter-digest'])
  }
})

test.each([
  ['../shout', 422, 'validation'],
  ['shout/../../x', 422, 'validation'],
  ['/etc', 424, 'generation'],
  [`${examples}/shout`, 424, 'generation'],
])('%s is outside every root and refused', async (id, status, error_type) => {
  const answer = await post(`${server.url}/generate`, body(id))
  expect([answer.status, answer.json]).toMatchObject([status, { error_type }])
})
