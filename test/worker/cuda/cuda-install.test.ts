import { createHash } from 'node:crypto'
import { readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import {
  type CudaInstall,
  installCuda,
  isInstalled,
  neededPackages,
  packageFolder,
} from '../../../packages/worker/src/cuda/cuda-install.ts'
import { type CudaPackage, libraryPackages, providerPackage } from '../../../packages/worker/src/cuda/cuda-packages.ts'
import type { ProcessRunner } from '../../../packages/worker/src/model/process-runner.ts'
import { refusal } from '../../support/refusal.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { buildZip } from '../../support/zip-builder.ts'

/** An index with two packages of a few bytes, and what pip was asked for. */
class Index {
  readonly wheels = new Map<string, Buffer>()
  readonly packages: CudaPackage[]
  readonly asked: (readonly string[])[] = []
  answer: 'wheel' | 'failure' | 'nothing' = 'wheel'

  constructor() {
    this.packages = ['provider==1.2', 'libraries==3'].map((requirement) => {
      const content = Buffer.from(`library of ${requirement}`)
      const entry = `lib/lib${requirement.split('==')[0]}.so.1`
      const wheel = Buffer.from(
        buildZip([
          { name: entry, content },
          { name: 'lib/not-needed.so', content: Buffer.alloc(9) },
        ]),
      )
      const wheelName = `${requirement.replace('==', '-')}-py3-none-any.whl`
      this.wheels.set(requirement, wheel)
      const wheelSha256 = createHash('sha256').update(wheel).digest('hex')
      return { requirement, wheelName, wheelBytes: wheel.length, wheelSha256, files: [{ entry, bytes: content.length }] }
    })
  }

  readonly pip: ProcessRunner = async ({ args }) => {
    this.asked.push(args)
    const requirement = args.at(-1) ?? ''
    if (this.answer === 'failure') return { exitCode: 1, output: `Looking\nERROR: No matching distribution for ${requirement}\n` }
    const name = this.packages.find((one) => one.requirement === requirement)?.wheelName ?? ''
    if (this.answer === 'wheel') await writeFile(path.join(args.at(-2) ?? '', name), this.wheels.get(requirement) ?? '')
    return { exitCode: 0, output: '' }
  }
}

let index: Index
let install: CudaInstall
let lines: string[]
const stopping = new AbortController()
const run = (part: Partial<CudaInstall> = {}) =>
  installCuda(
    { ...install, ...part },
    {
      runProcess: index.pip,
      signal: stopping.signal,
      onProgress: () => {},
      say: (line) => void lines.push(line),
      hasLibrary: () => false,
    },
  )
beforeEach(() => {
  index = new Index()
  lines = []
})
const place = async () => {
  install = { folder: await temporaryFolder(), python: 'python3', platform: 'linux', arch: 'x64', packages: index.packages }
}

describe('quiver cuda install', () => {
  test('says how much it is before the first download, and unpacks what is needed and nothing else', async () => {
    await place()
    await run()
    expect(lines[0]).toMatch(/^2 of 2 packages are missing: 1 MB to download, 1 MB on disk$/)
    expect(lines.at(-1)).toBe(`Installed in ${install.folder}`)
    for (const one of index.packages) {
      const folder = packageFolder(install.folder, one)
      const file = path.basename(one.files[0]?.entry ?? '')
      expect((await readdir(folder)).toSorted()).toEqual([file, 'seal.json'])
      expect(await readFile(path.join(folder, file), 'utf8')).toBe(`library of ${one.requirement}`)
    }
    expect(index.asked[0]).toEqual(
      expect.arrayContaining(['download', '--no-deps', '--only-binary=:all:', '--python-version=3.11']),
    )
  })

  test('does nothing a second time', async () => {
    await place()
    await run()
    await run()
    expect(index.asked).toHaveLength(2)
    expect(lines.at(-1)).toBe(`Everything is there: ${install.folder}`)
  })

  test('goes on where an installation broke off, and mends what is cut short', async () => {
    await place()
    const [first, second] = index.packages as [CudaPackage, CudaPackage]
    await run({ packages: [first] })
    await run()
    expect(index.asked.map((args) => args.at(-1))).toEqual([first.requirement, second.requirement])
    await truncate(path.join(packageFolder(install.folder, first), 'libprovider.so.1'), 3)
    expect(await isInstalled(install.folder, first)).toBe(false)
    await run()
    expect(index.asked.at(-1)?.at(-1)).toBe(first.requirement)
    expect(await isInstalled(install.folder, first)).toBe(true)
  })

  test('refuses a wheel with another digest, and leaves nothing', async () => {
    await place()
    index.wheels.set('provider==1.2', Buffer.from('something else'))
    const { code, message } = await refusal(() => run())
    expect(code).toBe('source_unavailable')
    expect(message).toMatch(/^provider-1\.2-py3-none-any\.whl has sha256 \w{64}, not \w{64}: it was not used$/)
    expect(await readdir(install.folder)).toEqual([])
  })

  test('gives the reason of pip in one sentence', async () => {
    await place()
    index.answer = 'failure'
    expect((await refusal(() => run())).message).toBe(
      'pip download provider==1.2 failed: No matching distribution for provider==1.2',
    )
    index.answer = 'nothing'
    expect((await refusal(() => run())).message).toBe('pip did not bring provider-1.2-py3-none-any.whl')
  })

  test('says on other platforms that there are no packages', async () => {
    await place()
    expect((await refusal(() => run({ platform: 'darwin', arch: 'arm64' }))).message).toBe(
      'there are packages of CUDA for linux/x64, and this is darwin/arm64',
    )
  })
})

test("NVIDIA's libraries are left out where the system has them, the provider never", () => {
  expect(neededPackages(() => true)).toEqual([providerPackage])
  expect(neededPackages(() => false)).toEqual([providerPackage, ...libraryPackages])
  const [runtime] = libraryPackages
  expect(neededPackages((name) => name === 'libcudart.so.13')).not.toContain(runtime)
})
