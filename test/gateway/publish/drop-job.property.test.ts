/** Publishers that are killed at any write to the store, and others that come after them or at the same time. */
import { storedAdapterKeys } from '@quiver/cache/store'
import { Catalogue } from '@quiver/gateway'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { dropId, isComplete, listDrops } from '../../../packages/gateway/src/publish/drop-folder.ts'
import { type DropOutcome, runDropJob } from '../../../packages/gateway/src/publish/drop-job.ts'
import { tinyLayout } from '../../support/adapter-files.ts'
import { freshCatalogue, publishedAt } from '../../support/catalogues.ts'
import { brokenDrops, keysBelow, putDrop, readJsonObject, soundDrop } from '../../support/drops.ts'
import { HookedStore } from '../../support/hooked-store.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { randomFrom, randomSeed } from '../../support/random-seed.ts'

/** What a kill looks like from inside; no code may treat it as a refusal of the store. */
class Killed extends Error {}

/** A process's view of the store. Once killed, it does nothing more. */
function processOn(store: MemoryStore, random: () => number, diesAt: (write: number) => boolean) {
  let writes = 0
  let isDead = false
  const step = async <T>(work: () => Promise<T>): Promise<T> => {
    for (let turns = Math.floor(random() * 4); turns > 0; turns--) await Promise.resolve()
    if (isDead) throw new Killed()
    return await work()
  }
  const write = <T>(work: () => Promise<T>) =>
    step(async () => {
      if (diesAt(writes++)) {
        isDead = true
        // Half of them right after the write, half right before it.
        if (random() < 0.5) await work()
        throw new Killed()
      }
      return await work()
    })
  return new HookedStore(store, {
    put: (_key, put) => write(put),
    delete: (_key, remove) => write(remove),
    get: (_key, read) => step(read),
  })
}

async function publishAll(own: HookedStore): Promise<DropOutcome[]> {
  const outcomes: DropOutcome[] = []
  const deps = {
    store: own,
    catalogue: new Catalogue(own),
    bases: () => ({ layout: tinyLayout, maxRank: 8 }),
    address: 's3://bucket',
    now: () => publishedAt,
    clock: new ManualClock(),
    log: () => {},
  }
  const drops = await listDrops(own)
  for (const drop of drops.values()) {
    if (!isComplete(drop) && !drop.files.has('_CLEARING.json')) continue
    outcomes.push(await runDropJob({ id: dropId(drop), name: drop.name }, deps, new AbortController().signal))
  }
  return outcomes
}

const drops = fc.uniqueArray(
  fc.record({ name: fc.constantFrom('a', 'b', 'acme/a', 'acme/a/b', 'acme/b'), broken: fc.boolean() }),
  {
    selector: ({ name }) => name,
    minLength: 1,
  },
)

test('every drop is published exactly once or rejected, and none is lost, whichever writes its publishers are killed at', async () => {
  const seed = randomSeed('the drop folder')
  await fc.assert(
    fc.asyncProperty(drops, fc.nat(), fc.integer({ min: 1, max: 3 }), async (dropped, salt, together) => {
      const store = new MemoryStore()
      const random = randomFrom(seed + salt)
      const brokenAt = (n: number) => brokenDrops[(salt + n) % brokenDrops.length]?.files ?? {}
      for (const [n, { name, broken }] of dropped.entries()) await putDrop(store, name, broken ? brokenAt(n) : soundDrop(n))
      const lives = async () => {
        for (let kills = 8; ; kills--) {
          const own = processOn(store, random, () => kills > 0 && random() < 0.1)
          const isDone = await publishAll(own).then(
            () => true,
            (error) => (error instanceof Killed ? false : Promise.reject(error)),
          )
          if (isDone) return
        }
      }
      await Promise.all(Array.from({ length: together }, lives))
      // What one was killed over while the others had looked already.
      await publishAll(processOn(store, random, () => false))
      const catalogue = await freshCatalogue(store)
      for (const [n, { name, broken }] of dropped.entries()) {
        const versions = [...(catalogue.entry(name)?.versions.values() ?? [])]
        const [published, rejected] = await Promise.all([
          readJsonObject(store, `drop/${name}/_PUBLISHED.json`),
          readJsonObject(store, `drop/${name}/_REJECTED.json`),
        ])
        const left = [...store.objects.keys()].filter((key) => /^[^/]*$/.test(key.replace(`drop/${name}/`, ''))).sort()
        if (broken) {
          expect([versions, published, left.length]).toEqual([[], undefined, Object.keys(brokenAt(n)).length + 1])
          expect(String(rejected?.['reasons'])).toMatch(brokenDrops[(salt + n) % brokenDrops.length]?.reason ?? /$^/)
          continue
        }
        expect(versions).toMatchObject([{ version: 1, source: { type: 'drop', uri: `s3://bucket/drop/${name}/` } }])
        expect(published).toMatchObject({ name, version: 1, digest: versions[0]?.digest, aliases: ['latest'] })
        expect(left).toEqual([`drop/${name}/_PUBLISHED.json`])
        const keys = storedAdapterKeys(
          versions[0]?.digest ??
            (() => {
              throw new Error('no version')
            })(),
        )
        expect((await store.get(keys.weights)).bytes).toEqual(soundDrop(n)['adapter_model.safetensors'])
        expect(await keysBelow(store, `dropped/${name.replaceAll('/', '@')}/`)).toEqual([
          expect.stringMatching(/_PUBLISHED\.json$/),
          expect.stringMatching(/adapter_config\.json$/),
        ])
      }
      // A killed publisher's entry may still be in the record alone, but none is there twice.
      const { events } = await catalogue.audit.page()
      expect(new Set(events.map(({ subject }) => subject)).size).toBe(events.length)
    }),
    { seed, numRuns: 120 },
  )
})

test('killed at each of its writes in turn, a job is finished by the next one', async () => {
  for (let at = 0; ; at++) {
    const store = new MemoryStore()
    await putDrop(store, 'a', { ...soundDrop(1), 'quiver.json': new TextEncoder().encode('{"alias": ["latest", "stable"]}') })
    let isKilled = false
    const own = processOn(store, randomFrom(at), (write) => {
      isKilled ||= write === at
      return write === at
    })
    await publishAll(own).catch((error) => expect(error).toBeInstanceOf(Killed))
    await publishAll(processOn(store, randomFrom(1), () => false))
    const entry = (await freshCatalogue(store)).entry('a')
    expect([...(entry?.versions.keys() ?? [])]).toEqual([1])
    expect([...(entry?.record.aliases ?? [])].map(([alias, { version }]) => [alias, version])).toEqual([
      ['latest', 1],
      ['stable', 1],
    ])
    expect(await keysBelow(store, 'drop/')).toEqual(['drop/a/_PUBLISHED.json'])
    if (!isKilled) {
      expect(at).toBeGreaterThan(9)
      return
    }
  }
})
