import { execFileSync } from 'node:child_process'
import { appendFile, mkdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { maxWeightsBytes } from '../../../packages/cache/src/format/validate.ts'
import { LocalOrigin } from '../../../packages/cache/src/origin/local.ts'
import { type BuiltAdapter, buildAdapter, jsonBytes, tinyLayout } from '../../support/adapter-files.ts'
import { refusal } from '../../support/refusal.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'

const signal = new AbortController().signal
const limits = { maxRank: 8, maxWeightsBytes: maxWeightsBytes(tinyLayout, 8) }

async function writeAdapter(
  folder: string,
  { config, weights }: Pick<BuiltAdapter, 'config' | 'weights'> = buildAdapter(),
): Promise<void> {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'adapter_config.json'), config)
  await writeFile(join(folder, 'adapter_model.safetensors'), weights)
}

async function prepared(): Promise<{ base: string; root: string; origin: LocalOrigin }> {
  const base = await temporaryFolder()
  const root = join(base, 'root')
  await writeAdapter(join(root, 'team', 'good'))
  await writeAdapter(join(base, 'secret'))
  return { base, root, origin: new LocalOrigin([root], limits) }
}

describe('the local origin', () => {
  it('finds an adapter by absolute and by relative path, with one digest', async () => {
    const { root, origin } = await prepared()
    const [absolute, relative] = [await origin.resolve(join(root, 'team/good')), await origin.resolve('team/good')]
    expect(relative.digest).toBe(absolute.digest)
    expect(new Uint8Array((await relative.fetch(signal)).weights)).toEqual(buildAdapter().weights)
  })

  it('tries relative paths below each root in order', async () => {
    const { base, root } = await prepared()
    const other = join(base, 'other')
    await writeAdapter(join(other, 'team', 'good'), buildAdapter({ alpha: 7 }))
    await writeAdapter(join(other, 'mine'))
    const origin = new LocalOrigin([root, join(base, 'missing'), other], limits)
    expect((await origin.resolve('team/good')).digest).toBe((await origin.resolve('mine')).digest)
  })

  it.each(['../secret', 'team/../../secret', '..', 'a\\b', 'team\u0000good', 'team\ngood', 'x'.repeat(2_000), ''])(
    'H15 refuses %j as a path',
    async (said) => {
      const { origin } = await prepared()
      expect((await refusal(() => origin.resolve(said))).code).toBe('invalid_request')
    },
  )

  it.each(['%2e%2e/secret', 'no/such/adapter', 'team', '\u202egood'])('H15 finds no adapter at %j', async (said) => {
    const { origin } = await prepared()
    expect((await refusal(() => origin.resolve(said))).code).toBe('adapter_not_found')
  })

  it('H15 refuses absolute paths outside of the roots, also ones that begin like a root', async () => {
    const { base, root, origin } = await prepared()
    await writeAdapter(`${root}-two/good`)
    for (const said of [join(base, 'secret'), '/etc', '/', `${root}-two/good`, base]) {
      expect((await refusal(() => origin.resolve(said))).code, said).toBe('forbidden')
    }
  })

  it('H15 refuses symbolic links that lead out of the roots, and names no path of the server', async () => {
    const { base, root, origin } = await prepared()
    await symlink(join(base, 'secret'), join(root, 'link'))
    await mkdir(join(root, 'partly'))
    await writeFile(join(root, 'partly', 'adapter_config.json'), buildAdapter().config)
    await symlink(join(base, 'secret', 'adapter_model.safetensors'), join(root, 'partly', 'adapter_model.safetensors'))
    for (const said of ['link', 'partly']) {
      const error = await refusal(() => origin.resolve(said))
      expect(error.code, said).toBe('forbidden')
      expect(error.message).not.toContain(base)
    }
  })

  it('follows symbolic links that stay below the roots', async () => {
    const { root, origin } = await prepared()
    await symlink(join(root, 'team', 'good'), join(root, 'alias'))
    expect((await origin.resolve('alias')).digest).toBe((await origin.resolve('team/good')).digest)
  })

  it('is switched off without roots, and says how to switch it on', async () => {
    const error = await refusal(() => new LocalOrigin([], limits).resolve('x'))
    expect([error.code, error.message]).toEqual(['forbidden', expect.stringContaining('QUIVER_LOCAL_ROOTS')])
  })

  it('gives a changed folder a new digest, and an unchanged one the same', async () => {
    const { root, origin } = await prepared()
    const before = await origin.resolve('team/good')
    expect((await origin.resolve('team/good')).digest).toBe(before.digest)
    await writeAdapter(join(root, 'team/good'), buildAdapter({ alpha: 9 }))
    const after = await origin.resolve('team/good')
    expect(after.digest).not.toBe(before.digest)
    const error = await refusal(() => before.fetch(signal))
    expect([error.code, error.message]).toEqual(['conflict', expect.stringContaining('was changed')])
  })

  it('refuses to go on when it was cancelled', async () => {
    const { origin } = await prepared()
    const found = await origin.resolve('team/good')
    expect((await refusal(() => found.fetch(AbortSignal.abort()))).code).toBe('client_closed')
  })

  const spoilt: readonly (readonly [string, (folder: string) => Promise<unknown>, string, RegExp])[] = [
    ['C01 no config', (folder) => rm(join(folder, 'adapter_config.json')), 'adapter_invalid', /adapter_config\.json is missing/],
    [
      'no weights',
      (folder) => rm(join(folder, 'adapter_model.safetensors')),
      'adapter_invalid',
      /adapter_model\.safetensors is missing/,
    ],
    [
      'S16 a pickle instead of weights',
      (folder) => rename(join(folder, 'adapter_model.safetensors'), join(folder, 'adapter_model.bin')),
      'adapter_invalid',
      /pickle, which is never opened/,
    ],
    [
      'S15 split weights',
      (folder) => rename(join(folder, 'adapter_model.safetensors'), join(folder, 'adapter_model.safetensors.index.json')),
      'adapter_invalid',
      /split into several files/,
    ],
    [
      'C01 a config of more than 64 kB',
      (folder) => truncate(join(folder, 'adapter_config.json'), 70_000),
      'too_large',
      /has 70000 bytes; at most 65536/,
    ],
    [
      'S17 weights of 5 GB',
      (folder) => truncate(join(folder, 'adapter_model.safetensors'), 5e9),
      'too_large',
      /has 5000000000 bytes/,
    ],
    [
      'C03 a rank above the maximum',
      (folder) => writeFile(join(folder, 'adapter_config.json'), jsonBytes({ ...buildAdapter().configFields, r: 9 })),
      'adapter_invalid',
      /rank 9 exceeds the maximum rank 8/,
    ],
    [
      'D06 a folder instead of weights',
      async (folder) => [
        await rm(join(folder, 'adapter_model.safetensors')),
        await mkdir(join(folder, 'adapter_model.safetensors')),
      ],
      'adapter_invalid',
      /not a regular file/,
    ],
    [
      'D06 a FIFO instead of weights',
      async (folder) => [
        await rm(join(folder, 'adapter_model.safetensors')),
        execFileSync('mkfifo', [join(folder, 'adapter_model.safetensors')]),
      ],
      'adapter_invalid',
      /not a regular file/,
    ],
    [
      'D06 a link to /dev/zero',
      async (folder) => [
        await rm(join(folder, 'adapter_model.safetensors')),
        await symlink('/dev/zero', join(folder, 'adapter_model.safetensors')),
      ],
      'forbidden',
      /outside of the folders/,
    ],
  ]
  it.each(spoilt)('refuses %s without naming the server folder', async (_, spoil, code, message) => {
    const { base, root, origin } = await prepared()
    await spoil(join(root, 'team', 'good'))
    const error = await refusal(() => origin.resolve('team/good'))
    expect(error.code).toBe(code)
    expect(error.message).toMatch(message)
    expect(error.message).not.toContain(base)
  })

  it('S16 never looks into a pickle that lies beside the weights', async () => {
    const { root, origin } = await prepared()
    const before = (await origin.resolve('team/good')).digest
    await writeFile(join(root, 'team', 'good', 'adapter_model.bin'), 'cos\nsystem\n')
    expect((await origin.resolve('team/good')).digest).toBe(before)
  })

  it('O17 gives many requests for a new folder one digest, and a config with other white space the same', async () => {
    const { root, origin } = await prepared()
    const found = await Promise.all(Array.from({ length: 50 }, () => origin.resolve('team/good')))
    expect(new Set(found.map(({ digest }) => digest)).size).toBe(1)
    await appendFile(join(root, 'team', 'good', 'adapter_config.json'), ' ')
    expect((await origin.resolve('team/good')).digest).toBe(found[0]?.digest)
  })
})
