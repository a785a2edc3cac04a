/** Publishers that are killed at any write and come again, several at once: what the store says then is whole and counts once. */
import { storedAdapterKeys } from '@quiver/cache/store'
import { Catalogue } from '@quiver/gateway'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { freshCatalogue, publishTo } from '../../support/catalogues.ts'
import { HookedStore } from '../../support/hooked-store.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { randomFrom, randomSeed } from '../../support/random-seed.ts'

/** What a kill looks like from inside; no code may treat it as a refusal of the store. */
class Killed extends Error {}

const CONTENTS = 4
const publishers = fc.array(fc.array(fc.nat(CONTENTS - 1), { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 3 })

/** A process's view of the store: its writes are delayed at random, so that processes interleave, and some of them kill it. */
function processOn(store: MemoryStore, random: () => number, kills: { left: number }): HookedStore {
  const pause = async () => {
    for (let turns = Math.floor(random() * 6); turns > 0; turns--) await Promise.resolve()
  }
  const dies = () => kills.left > 0 && random() < 0.3 && kills.left-- > 0
  return new HookedStore(store, {
    async put(key, write) {
      await pause()
      if (dies()) throw new Killed('before a write')
      if (/^catalogue\/.*\/[0-9]+\.json$/.test(key)) expectOnlyWhole(store)
      const written = await write()
      if (dies()) throw new Killed('after a write')
      await pause()
      return written
    },
    list: pause,
  })
}

function expectOnlyWhole(store: MemoryStore): void {
  for (const [key, bytes] of store.objects) {
    if (!/^catalogue\/.*\/[0-9]+\.json$/.test(key)) continue
    const { digest } = JSON.parse(new TextDecoder().decode(bytes))
    for (const needed of Object.values(storedAdapterKeys(digest))) expect(store.objects.has(needed), key).toBe(true)
  }
}

test('each content of a name is one version however often its publishers are killed, numbers have no gap, and latest is the highest', async () => {
  const seed = randomSeed('publishing')
  await fc.assert(
    fc.asyncProperty(publishers, fc.nat(), async (contents, salt) => {
      const store = new MemoryStore()
      const random = randomFrom(seed + salt)
      const kills = { left: 12 }
      const runAll = async (mine: readonly number[]) => {
        for (const content of mine) {
          for (let isDone = false; !isDone; ) {
            const own = processOn(store, random, kills)
            // A process that was killed starts with an empty memory.
            isDone = await publishTo(own, new Catalogue(own), 'acme/a', content).then(
              () => true,
              (error) => (error instanceof Killed ? false : Promise.reject(error)),
            )
          }
        }
      }
      await Promise.all(contents.map(runAll))
      const entry = (await freshCatalogue(store)).entry('acme/a')
      const distinct = new Set(contents.flat()).size
      const versions = [...(entry?.versions.keys() ?? [])].sort((a, b) => a - b)
      expect(versions).toEqual(Array.from({ length: distinct }, (_, index) => index + 1))
      expect(new Set([...(entry?.versions.values() ?? [])].map(({ digest }) => digest)).size).toBe(distinct)
      expect(entry?.record).toMatchObject({ lastVersion: distinct })
      expect(entry?.record.aliases.get('latest')).toMatchObject({ version: distinct, reached: distinct })
      expectOnlyWhole(store)
    }),
    { seed, numRuns: 150 },
  )
})

test('a publication that was killed anywhere is finished by the next with one entry in the audit log, and nothing is written after that', async () => {
  for (let at = 0; at < 12; at++) {
    const store = new MemoryStore()
    let writes = 0
    const dying = new HookedStore(store, {
      async put(_key, write) {
        if (writes++ === Math.floor(at / 2)) {
          if (at % 2 === 1) await write()
          throw new Killed(`write ${at}`)
        }
        return await write()
      },
    })
    await publishTo(dying, new Catalogue(dying), 'a', 1, { pin: true }).catch(() => undefined)
    const { manifest, aliases } = await publishTo(store, await freshCatalogue(store), 'a', 1, { pin: true })
    expect([manifest.version, aliases]).toEqual([1, ['latest']])
    const before = new Map(store.objects)
    await publishTo(store, await freshCatalogue(store), 'a', 1, { pin: true })
    const catalogue = await freshCatalogue(store)
    expect([...store.objects]).toEqual([...before])
    expect(catalogue.entry('a')?.record).toMatchObject({ isPinned: true, lastVersion: 1 })
    // An entry that could not be copied is still in the record, and the next change copies it.
    await publishTo(store, catalogue, 'a', 2)
    const { events } = await catalogue.audit.page()
    expect(events.map(({ action, after }) => [action, after['version']])).toEqual(
      expect.arrayContaining([
        ['publish', 1],
        ['publish', 2],
      ]),
    )
    expect(events).toHaveLength(2)
  }
})
