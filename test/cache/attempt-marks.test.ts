import * as files from 'node:fs/promises'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { AdapterDigest } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { AttemptMarks, type MarkFiles } from '../../packages/cache/src/attempt-marks.ts'
import { digestFor } from '../support/packed-adapters.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const [a, b] = [digestFor('a'), digestFor('b')]
const { signal } = new AbortController()
/** An id that no process has: ids end below it. */
const DEAD = 4_194_999

async function open(folder: string, fakes: Partial<MarkFiles> = {}) {
  const logged: string[] = []
  const marks = await AttemptMarks.open(folder, {
    files: { ...files, ...fakes },
    log: (level, message) => logged.push(`${level}: ${message}`),
  })
  return { marks, logged }
}

/** What a process leaves that ends while it works on an adapter. */
const crash = (folder: string, digest: string, phase = 'load', pid = DEAD): Promise<void> =>
  writeFile(join(folder, `${digest}.${phase}.${pid}`), '')

describe('attempt marks', () => {
  it('W09: a mark is on disk before the work begins, and gone after it, well or badly', async () => {
    const folder = await temporaryFolder()
    const { marks } = await open(folder)
    const seen: string[][] = []
    const look = async (): Promise<void> => void seen.push(await readdir(folder))
    await marks.guard(a, 'load', look)
    await expect(marks.guard(b, 'place', async () => Promise.reject(new Error('no room')))).rejects.toThrow('no room')
    expect(seen).toEqual([[`${a}.load.${process.pid}`]])
    expect(await readdir(folder)).toEqual([])
  })

  it('costs nothing any more once an adapter has come through', async () => {
    const folder = await temporaryFolder()
    let writes = 0
    const writeMark: MarkFiles['writeFile'] = async (...args) => {
      writes += 1
      await files.writeFile(...args)
    }
    const { marks } = await open(folder, { writeFile: writeMark })
    for (let i = 0; i < 3; i += 1) await marks.guard(a, 'load', async () => i)
    await marks.guard(a, 'place', async () => {})
    expect(writes).toBe(2)
  })

  it('W09: a process that ended in an attempt is counted once, over restarts, until the adapter comes through', async () => {
    const folder = await temporaryFolder()
    for (const expected of [1, 2]) {
      await crash(folder, a)
      expect((await open(folder)).marks.crashesOf(a)).toBe(expected)
    }
    const { marks } = await open(folder)
    expect([marks.crashesOf(a), marks.crashesOf(b), marks.suspects]).toEqual([2, 0, new Set([a])])
    // Into a slot it came; that it loads is not shown by that.
    await marks.guard(a, 'place', async () => {})
    expect((await open(folder)).marks.crashesOf(a)).toBe(2)
    await marks.guard(a, 'load', async () => {})
    expect([marks.crashesOf(a), (await open(folder)).marks.crashesOf(a), await readdir(folder)]).toEqual([0, 0, []])
  })

  it('D07: of two workers that start at once one counts, and what a living one does is no crash', async () => {
    const folder = await temporaryFolder()
    await crash(folder, a)
    await crash(folder, b, 'load', process.ppid)
    const both = await Promise.all([open(folder), open(folder)])
    expect((await open(folder)).marks.crashesOf(a)).toBe(1)
    for (const { marks } of both) expect(marks.crashesOf(b)).toBe(0)
  })

  it('lets suspects go one at a time, and everybody else beside them', async () => {
    const folder = await temporaryFolder()
    for (const digest of [a, b]) await crash(folder, digest)
    const { marks } = await open(folder)
    const gate = Promise.withResolvers<void>()
    const begun: string[] = []
    const work = (name: string) => async (): Promise<void> => {
      begun.push(name)
      if (name === 'a') await gate.promise
    }
    const inTurn = (digest: AdapterDigest, name: string) => marks.inTurn(digest, 'load', signal, work(name))
    const [first, second] = [inTurn(a, 'a'), inTurn(b, 'b')]
    await inTurn(digestFor('c'), 'c')
    expect(begun.toSorted()).toEqual(['a', 'c'])
    gate.resolve()
    await Promise.all([first, second])
    expect(begun.at(-1)).toBe('b')
  })

  it('forgets on request', async () => {
    const folder = await temporaryFolder()
    await crash(folder, a)
    await crash(folder, a, 'place')
    const { marks } = await open(folder)
    await marks.forget(a)
    expect([marks.suspects.size, await readdir(folder)]).toEqual([0, []])
  })

  it('D02: adapters are served without marks where none can be written, and that is said once', async () => {
    const folder = await temporaryFolder()
    const fails = async (): Promise<never> => {
      throw Object.assign(new Error('EROFS'), { code: 'EROFS' })
    }
    const { marks, logged } = await open(folder, { writeFile: fails })
    for (const digest of [a, b]) expect(await marks.guard(digest, 'load', async () => 'served')).toBe('served')
    expect(logged).toEqual(['warn: crashes of the loader cannot be counted'])
  })

  it('D05: leaves what it does not know alone, and takes garbage for one crash', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'notes.txt'), '')
    await writeFile(join(folder, `${a}.load.crashes`), 'garbage')
    const { marks } = await open(folder)
    expect(marks.crashesOf(a)).toBe(1)
    expect(await readdir(folder)).toContain('notes.txt')
  })
})
