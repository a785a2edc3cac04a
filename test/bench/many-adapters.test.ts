import { randomUUID } from 'node:crypto'
import { FolderStore } from '@quiver/cache/store'
import { Catalogue } from '@quiver/gateway'
import { expect, test } from 'vitest'
import { catalogueObjects, manyNames, writeToFolder } from '../../bench/tiers/many-adapters.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

test('a catalogue made for measuring is read without a problem, and every name of it means its version', async () => {
  const folder = await temporaryFolder()
  const names = manyNames(250)
  expect(new Set(names).size).toBe(250)
  await writeToFolder(folder, catalogueObjects(names))
  const catalogue = new Catalogue(await FolderStore.open(folder, randomUUID))
  expect((await catalogue.refresh()).read).toBe(500)
  expect(catalogue.problems()).toEqual([])
  expect(catalogue.names()).toEqual(names.toSorted())
  for (const name of names) expect(catalogue.resolve(name).name).toBe(name)
})
