import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FolderStore, type ObjectStore } from '@quiver/cache/store'
import { Catalogue } from '@quiver/gateway'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { publishExamples } from '../../packages/cli/src/example-adapters.ts'
import { scriptedInfo } from '../support/scripted-worker.ts'

const examples = join(import.meta.dirname, '../../examples/adapters')
const names = ['sentiment', 'shout', 'support-json', 'text-to-sql']

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'quiver-examples-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function open() {
  const store = await FolderStore.open(folder, randomUUID)
  const catalogue = new Catalogue(store)
  await catalogue.load()
  return { store, catalogue, now: () => new Date(0) }
}

const never = () => expect.unreachable()

test('the first start publishes every example under its folder name, a later one finds them', async () => {
  const first = await open()
  expect(await publishExamples(examples, scriptedInfo, first)).toBeUndefined()
  expect(first.catalogue.names()).toEqual(names)
  expect((await open()).catalogue.names()).toEqual(names)
})

test('a start that was interrupted on the way is finished by the next', async () => {
  const first = await open()
  let puts = 0
  const put: ObjectStore['put'] = (...args) => (puts++ === 4 ? Promise.reject(new Error('killed')) : first.store.put(...args))
  const dying: ObjectStore = { put, head: (key) => first.store.head(key), get: never, list: never, delete: never }
  await expect(publishExamples(examples, scriptedInfo, { ...first, store: dying })).rejects.toThrow('killed')
  const second = await open()
  await publishExamples(examples, scriptedInfo, second)
  expect(second.catalogue.names()).toEqual(names)
})

test('two servers that start on one store at once both have them', async () => {
  const both = await Promise.all([open(), open()])
  await Promise.all(both.map((deps) => publishExamples(examples, scriptedInfo, deps)))
  for (const { catalogue } of both) expect(catalogue.names()).toEqual(names)
})

test('what somebody has removed does not come back', async () => {
  const first = await open()
  await publishExamples(examples, scriptedInfo, first)
  await first.store.delete('catalogue/shout/1.json')
  const second = await open()
  await publishExamples(examples, scriptedInfo, second)
  expect(second.catalogue.names()).toEqual(names.filter((name) => name !== 'shout'))
})

test('a model that they do not fit is told in one line, and nothing is published', async () => {
  const deps = await open()
  const layout = { ...scriptedInfo.layout, layerCount: 12 }
  expect(await publishExamples(examples, { ...scriptedInfo, layout }, deps)).toBe(
    'The example adapters are not published, because they do not fit smollm2-135m-instruct with ranks up to 64.',
  )
  expect(deps.catalogue.names()).toEqual([])
})
