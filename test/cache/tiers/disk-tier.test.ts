import { execFileSync } from 'node:child_process'
import * as files from 'node:fs/promises'
import { mkdir, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type AdapterDigest, ServingError } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { inspectAdapter, readAdapter } from '../../../packages/cache/src/format/inspect.ts'
import { type PackedFile, packAdapter } from '../../../packages/cache/src/format/pack.ts'
import type { DiskFiles } from '../../../packages/cache/src/tiers/disk-files.ts'
import { type DiskPolicy, DiskTier } from '../../../packages/cache/src/tiers/disk-tier.ts'
import { buildAdapter, tinyLayout as layout } from '../../support/adapter-files.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'

type Packed = PackedFile & { readonly digest: AdapterDigest }

async function packed(alpha: number): Promise<Packed> {
  const built = buildAdapter({ alpha })
  const { digest } = await inspectAdapter(built.config, built.weights, layout, 8)
  return { digest, ...(await packAdapter(await readAdapter(built, layout, 8), { digest, layout, dtype: 'f16' })) }
}

interface Options {
  readonly budgetBytes?: number
  readonly fakes?: Partial<DiskFiles>
  readonly policy?: Partial<DiskPolicy>
}

async function open(folder: string, { budgetBytes = 1e9, fakes = {}, policy }: Options = {}) {
  const logged: string[] = []
  let ids = 0
  const tier = await DiskTier.open(
    { folder, budgetBytes, layout, dtype: 'f16' },
    {
      files: { ...files, ...fakes },
      log: (level, message) => logged.push(`${level}: ${message}`),
      uniqueId: () => `id${ids++}`,
      policy: { score: () => 0, noteUse: () => {}, ...policy },
    },
  )
  return { tier, logged }
}

async function filesBelow(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name))
}

async function onlyFile(folder: string): Promise<string> {
  const [path = '', ...more] = await filesBelow(folder)
  expect(more).toEqual([])
  return path
}

const failure = (code: string): NodeJS.ErrnoException => Object.assign(new Error(code), { code })

describe('the disk tier', () => {
  it('gives back what it kept, also after a restart, at a path made of digest, layout and dtype', async () => {
    const folder = await temporaryFolder()
    const one = await packed(4)
    const { tier } = await open(folder)
    expect(await tier.read(one.digest)).toBeUndefined()
    expect(await tier.write(one.digest, one.file)).toBe(true)
    expect((await open(folder)).tier.sizeOf(one.digest)).toBe(one.file.length)
    expect(await (await open(folder)).tier.read(one.digest)).toEqual(one.adapter)
    expect(await onlyFile(folder)).toMatch(
      new RegExp(`/packed-v1/[0-9a-f]{16}-f16/${one.digest.slice(0, 2)}/${one.digest}\\.qvr$`),
    )
    expect(tier.counters).toEqual({ hits: 0, misses: 1, damaged: 0, evicted: 0, writeFailures: 0 })
  })

  it.each([
    [
      'a flipped bit',
      async (path: string) =>
        writeFile(
          path,
          (await readFile(path)).map((byte, i) => (i === 500 ? byte ^ 1 : byte)),
        ),
    ],
    ['a cut', (path: string) => truncate(path, 300)],
    ['nothing left', (path: string) => truncate(path, 0)],
    ['zeros in the middle', async (path: string) => writeFile(path, (await readFile(path)).fill(0, 200, 400))],
    ['zeros altogether', async (path: string) => writeFile(path, (await readFile(path)).fill(0))],
  ])('D04 discards and counts a file with %s', async (_, spoil) => {
    const folder = await temporaryFolder()
    const one = await packed(4)
    const { tier, logged } = await open(folder)
    await tier.write(one.digest, one.file)
    await spoil(await onlyFile(folder))
    expect(await tier.read(one.digest)).toBeUndefined()
    expect([await filesBelow(folder), tier.counters.damaged, tier.bytes]).toEqual([[], 1, 0])
    expect(logged.at(-1)).toMatch(/damaged/)
    await tier.write(one.digest, one.file)
    expect(await tier.read(one.digest)).toEqual(one.adapter)
  })

  it('D04 discards a sound file of another adapter under this digest', async () => {
    const folder = await temporaryFolder()
    const [one, two] = [await packed(4), await packed(5)]
    const { tier } = await open(folder)
    await tier.write(one.digest, one.file)
    await writeFile(await onlyFile(folder), two.file)
    expect(await tier.read(one.digest)).toBeUndefined()
    expect(tier.counters.damaged).toBe(1)
  })

  it.each([
    [
      'a symbolic link',
      async (path: string, folder: string) => [
        await writeFile(join(folder, 'elsewhere'), 'x'),
        await symlink(join(folder, 'elsewhere'), path),
      ],
    ],
    ['a link to /dev/zero', async (path: string) => symlink('/dev/zero', path)],
    ['a FIFO', async (path: string) => execFileSync('mkfifo', [path])],
    ['a folder', async (path: string) => mkdir(join(path, 'inner'), { recursive: true })],
  ])('D06 neither follows nor keeps %s in the place of a file', async (_, place) => {
    const folder = await temporaryFolder()
    const one = await packed(4)
    const { tier } = await open(folder)
    await tier.write(one.digest, one.file)
    const path = await onlyFile(folder)
    await rm(path)
    await place(path, await temporaryFolder())
    expect(await tier.read(one.digest)).toBeUndefined()
    expect([await filesBelow(folder), tier.counters.damaged]).toEqual([[], 1])
  })

  it('D03 removes what a killed process left, and keeps what a living one is writing', async () => {
    const folder = await temporaryFolder()
    const one = await packed(4)
    await (await open(folder)).tier.write(one.digest, one.file)
    const shelf = join(await onlyFile(folder), '..')
    await writeFile(join(shelf, 'tmp-4194999-dead'), one.file.subarray(0, 100))
    await writeFile(join(shelf, `tmp-${process.pid}-earlier-life`), '')
    await writeFile(join(shelf, `tmp-${process.ppid}-alive`), '')
    await writeFile(join(shelf, 'notes.txt'), '')
    const { tier } = await open(folder)
    expect((await readdir(shelf)).toSorted()).toEqual([`${one.digest}.qvr`, `tmp-${process.ppid}-alive`].toSorted())
    expect(tier.bytes).toBe(one.file.length)
  })

  it('D03 a half-written file is never found, wherever the write stops', async () => {
    const folder = await temporaryFolder()
    const one = await packed(4)
    for (const step of ['open', 'rename'] as const) {
      const stop = async (): Promise<never> => {
        throw failure('EINTR')
      }
      const { tier } = await open(folder, { fakes: { [step]: stop } })
      expect(await tier.write(one.digest, one.file)).toBe(false)
      expect([await filesBelow(folder), tier.counters.writeFailures, tier.bytes]).toEqual([[], 1, 0])
    }
  })

  it('evicts the least recently used file within its budget, in the order of use before a restart', async () => {
    const folder = await temporaryFolder()
    const all = await Promise.all([1, 2, 3].map(packed))
    const [one, two, three] = all
    if (one === undefined || two === undefined || three === undefined) throw new Error('three adapters')
    const first = await open(folder)
    for (const { digest, file } of [one, two]) await first.tier.write(digest, file)
    await first.tier.read(one.digest)
    const { tier } = await open(folder, { budgetBytes: 2.5 * one.file.length })
    await tier.write(three.digest, three.file)
    expect(all.map(({ digest }) => tier.sizeOf(digest) !== undefined)).toEqual([true, false, true])
    expect([(await filesBelow(folder)).length, tier.counters.evicted]).toEqual([2, 1])
  })

  it('evicts what is least worth keeping, and never what is kept or read', async () => {
    const folder = await temporaryFolder()
    const all = await Promise.all([1, 2, 3, 4].map(packed))
    const [one, two, three, four] = all
    if (one === undefined || two === undefined || three === undefined || four === undefined) throw new Error('four adapters')
    const worth = new Map(all.map(({ digest }, index) => [digest, [0, 3, 1, 2][index] ?? 0]))
    const policy = { score: (digest: AdapterDigest) => worth.get(digest) ?? 0 }
    const { tier } = await open(folder, { budgetBytes: 3.5 * one.file.length, policy })
    tier.keep(one.digest, true)
    for (const { digest, file } of all) await tier.write(digest, file)
    expect(all.map(({ digest }) => tier.sizeOf(digest) !== undefined)).toEqual([true, true, false, true])
    for (const { digest } of [two, four]) tier.keep(digest, true)
    // What is kept fills the tier: the newcomer is served from memory.
    expect(await tier.write(three.digest, three.file)).toBe(false)
    tier.keep(one.digest, false)
    expect(await tier.write(three.digest, three.file)).toBe(true)
    expect(all.map(({ digest }) => tier.sizeOf(digest) !== undefined)).toEqual([false, true, true, true])
  })

  it('D07 spares a file that another worker has used since, and takes the next', async () => {
    const folder = await temporaryFolder()
    const [one, two, three] = await Promise.all([1, 2, 3].map(packed))
    if (one === undefined || two === undefined || three === undefined) throw new Error('three adapters')
    const noted: AdapterDigest[] = []
    const { tier } = await open(folder, {
      budgetBytes: 2.5 * one.file.length,
      policy: { noteUse: (digest) => noted.push(digest) },
    })
    for (const { digest, file } of [one, two]) await tier.write(digest, file)
    const other = await open(folder, { budgetBytes: 2.5 * one.file.length })
    await other.tier.read(one.digest)
    await tier.write(three.digest, three.file)
    expect([one, two, three].map(({ digest }) => tier.sizeOf(digest) !== undefined)).toEqual([true, false, true])
    expect(noted).toEqual([one.digest])
  })

  it('D09 trims to a budget that shrank before it is ready', async () => {
    const folder = await temporaryFolder()
    const { tier } = await open(folder)
    for (const alpha of [1, 2, 3]) {
      const { digest, file } = await packed(alpha)
      await tier.write(digest, file)
    }
    const size = tier.bytes / 3
    expect((await open(folder, { budgetBytes: size * 1.5 })).tier.bytes).toBe(size)
    expect(await filesBelow(folder)).toHaveLength(1)
  })

  it('D01 evicts and tries once more when the disk is full', async () => {
    const folder = await temporaryFolder()
    const [one, two] = [await packed(1), await packed(2)]
    let renames = 0
    const rename: DiskFiles['rename'] = async (from, to) => {
      renames += 1
      if (renames === 2) throw failure('ENOSPC')
      await files.rename(from, to)
    }
    const { tier } = await open(folder, { fakes: { rename } })
    await tier.write(one.digest, one.file)
    expect(await tier.write(two.digest, two.file)).toBe(true)
    expect([one, two].map(({ digest }) => tier.sizeOf(digest) !== undefined)).toEqual([false, true])
    expect(await filesBelow(folder)).toHaveLength(1)
  })

  it('D01 carries on without the disk when it stays full', async () => {
    const folder = await temporaryFolder()
    const one = await packed(1)
    const rename = async (): Promise<never> => {
      throw failure('ENOSPC')
    }
    const { tier, logged } = await open(folder, { fakes: { rename } })
    expect(await tier.write(one.digest, one.file)).toBe(false)
    expect([await filesBelow(folder), logged.at(-1)]).toEqual([[], 'warn: an adapter could not be kept on disk'])
  })

  it.each(['EROFS', 'EIO'])('D02 stops writing after %s, with an alarm, and still reads', async (code) => {
    const folder = await temporaryFolder()
    const [one, two] = [await packed(1), await packed(2)]
    await (await open(folder)).tier.write(one.digest, one.file)
    let renames = 0
    const rename = async (): Promise<never> => {
      renames += 1
      throw failure(code)
    }
    const { tier, logged } = await open(folder, { fakes: { rename } })
    for (let i = 0; i < 3; i++) expect(await tier.write(two.digest, two.file)).toBe(false)
    expect([renames, logged.filter((line) => line.startsWith('error'))]).toEqual([
      1,
      ['error: the disk tier is switched off: its folder cannot be written'],
    ])
    expect(await tier.read(one.digest)).toEqual(one.adapter)
  })

  it('D02 keeps a sound file when no file handle is free to read it', async () => {
    const folder = await temporaryFolder()
    const one = await packed(1)
    await (await open(folder)).tier.write(one.digest, one.file)
    const { tier } = await open(folder, {
      fakes: {
        open: async () => {
          throw failure('EMFILE')
        },
      },
    })
    expect(await tier.read(one.digest)).toBeUndefined()
    expect([await filesBelow(folder).then((found) => found.length), tier.counters.damaged]).toEqual([1, 0])
  })

  it('D07 two tiers on one folder find each other’s files, and miss evicted ones without harm', async () => {
    const folder = await temporaryFolder()
    const one = await packed(1)
    const [first, second] = [(await open(folder)).tier, (await open(folder)).tier]
    await first.write(one.digest, one.file)
    expect(await second.read(one.digest)).toEqual(one.adapter)
    expect(second.sizeOf(one.digest)).toBe(one.file.length)
    await rm(await onlyFile(folder))
    expect(await second.read(one.digest)).toBeUndefined()
    expect([second.sizeOf(one.digest), second.counters.damaged]).toEqual([undefined, 0])
  })

  it('D05 leaves files of another layout version alone', async () => {
    const folder = await temporaryFolder()
    await mkdir(join(folder, 'packed-v9'))
    await writeFile(join(folder, 'packed-v9', 'x'), 'y')
    await open(folder)
    expect(await filesBelow(folder)).toHaveLength(1)
  })

  it('D10 refuses a folder that cannot be made, and names it for the operator', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'file'), '')
    await expect(open(join(folder, 'file'))).rejects.toThrow(ServingError)
    await expect(open(join(folder, 'file'))).rejects.toThrow(/cache folder .*file cannot be written \(ENOTDIR\)/)
  })
})
