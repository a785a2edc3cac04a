/** Rules of the source tree that no compiler checks: who imports whom, what may be read where, how long a file may be. */
import { posix } from 'node:path'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { importsOf, projectFiles, readProjectBytes, readProjectText, withoutComments } from '../support/repository.ts'

const packages = ['protocol', 'cache', 'worker', 'gateway', 'cli'] as const
type Package = (typeof packages)[number]

/** What each package may import of ours, to the letter. */
const mayImport: Readonly<Record<Package, readonly string[]>> = {
  protocol: [],
  cache: ['@quiver/protocol'],
  worker: ['@quiver/protocol', '@quiver/cache', '@quiver/cache/format', '@quiver/cache/hub', '@quiver/cache/store'],
  gateway: ['@quiver/protocol', '@quiver/cache/format', '@quiver/cache/origin', '@quiver/cache/store'],
  cli: [
    '@quiver/protocol',
    '@quiver/cache',
    '@quiver/cache/format',
    '@quiver/cache/origin',
    '@quiver/cache/store',
    '@quiver/worker',
    '@quiver/gateway',
  ],
}

const files = projectFiles()
const sources = files.filter((file) => /^packages\/[a-z]+\/src\/.*\.ts$/.test(file))
const packageOf = (file: string): Package => packages.find((name) => file.startsWith(`packages/${name}/`)) ?? 'protocol'
const imports = sources.flatMap((file) =>
  importsOf(readProjectText(file)).map((specifier) => ({ file, from: packageOf(file), specifier })),
)
/** Lines of the given files, without comments, that a pattern matches. */
const matches = (among: readonly string[], pattern: RegExp) =>
  among.flatMap((file) =>
    withoutComments(readProjectText(file))
      .split('\n')
      .filter((line) => pattern.test(line))
      .map((line) => `${file}: ${line.trim()}`),
  )
const belowCli = sources.filter((file) => packageOf(file) !== 'cli')

const manifestSchema = z.object({
  dependencies: z.record(z.string(), z.string()).default({}),
  devDependencies: z.record(z.string(), z.string()).default({}),
})
const manifestOf = (folder: string) => manifestSchema.parse(JSON.parse(readProjectText(posix.join(folder, 'package.json'))))

describe('packages', () => {
  test('are the five that are documented', () => {
    expect(new Set(sources.map((file) => file.split('/')[1]))).toEqual(new Set(packages))
  })

  test('import one way, by name, and only what they may', () => {
    const wrong = imports.filter(
      ({ from, specifier }) => specifier.startsWith('@quiver/') && !mayImport[from].includes(specifier),
    )
    expect(wrong).toEqual([])
  })

  test('make no circle', () => {
    const needs = (name: Package): Package[] =>
      packages.filter((other) => mayImport[name].some((one) => one.split('/')[1] === other))
    const reached = (name: Package, seen: ReadonlySet<Package>): Package[] =>
      needs(name).flatMap((other) => (seen.has(other) ? [other] : [other, ...reached(other, new Set([...seen, other]))]))
    for (const name of packages) expect(reached(name, new Set([name])), name).not.toContain(name)
  })

  test('reach into no other package by a path', () => {
    const outside = imports.filter(({ file, from, specifier }) => {
      if (!specifier.startsWith('.')) return false
      const target = posix.join(posix.dirname(file), specifier)
      return !target.startsWith(`packages/${from}/`)
    })
    expect(outside).toEqual([])
  })

  test.each(packages)('%s lists in its package.json what it imports, and nothing else', (name) => {
    const own = imports.filter(({ from }) => from === name).map(({ specifier }) => specifier)
    const needed = own
      .filter((specifier) => !specifier.startsWith('.') && !specifier.startsWith('node:'))
      .map((specifier) => specifier.match(/^(?:@[^/]+\/)?[^/]+/)?.[0] ?? specifier)
    // Resolved by its path: the library inside it is what is used.
    if (name === 'worker') needed.push('onnxruntime-node')
    expect(Object.keys(manifestOf(`packages/${name}`).dependencies).toSorted()).toEqual([...new Set(needed)].toSorted())
  })
})

describe('below cli', () => {
  test('nobody reads the environment', () => {
    expect(matches(belowCli, /\bprocess\.env\b/)).toEqual([])
  })

  test('K01 nobody asks for the time of day', () => {
    expect(matches(belowCli, /\bDate\.now\b|\bnew Date\(\s*\)|\bDate\(\)/)).toEqual([])
  })

  test('nobody rolls dice that a test cannot hold', () => {
    expect(matches(belowCli, /\bMath\.random\b|\brandomBytes\b/)).toEqual([])
  })

  test('nobody writes to the console', () => {
    expect(matches(belowCli, /\bconsole\.|\bprocess\.std(?:out|err)\b/)).toEqual([])
  })

  test('no module has a variable that changes', () => {
    expect(matches(sources, /^(?:export )?(?:let|var) /)).toEqual([])
  })
})

describe('files', () => {
  test('of source have at most 300 lines', () => {
    const lengths = [...sources, ...files.filter((file) => /^bench\/.*\.ts$/.test(file))].map((file) => ({
      file,
      lines: readProjectText(file).trimEnd().split('\n').length,
    }))
    expect(lengths.filter(({ lines }) => lines > 300)).toEqual([])
  })

  test('have no note of work to be done without the number of an issue', () => {
    const texts = files.filter((file) => /\.(?:ts|py|md|json|jsonc)$|^\.ci\//.test(file) && !file.startsWith('test/fixtures/'))
    const notes = texts.flatMap((file) =>
      readProjectText(file)
        .split('\n')
        .filter((line) => /\b(?:TODO|FIXME|XXX)\b/.test(line) && !/#\d+/.test(line))
        .map((line) => `${file}: ${line.trim()}`),
    )
    // This very test, which has to spell the words.
    expect(notes.filter((note) => !note.startsWith('test/repository/dependencies.test.ts'))).toEqual([])
  })

  test('name neither a package registry nor a folder of the machine they were written on', () => {
    const registry = new RegExp(`(?:${['npmjs', 'yarnpkg', 'pypi', 'pythonhosted'].join('|')})\\.(?:org|com|io)\\b`)
    const folder = /(?:^|[\s"'`=(:>])\/(?:root|work|workspace|builds|Users)\/[a-z]/
    const found = files.flatMap((file) => {
      const bytes = readProjectBytes(file)
      return [registry, folder].flatMap((pattern) => {
        const match = pattern.exec(bytes)
        return match === null ? [] : [`${file}: ${match[0]}`]
      })
    })
    expect(found).toEqual([])
  })
})

describe('what is installed', () => {
  const lockSchema = z.object({
    packages: z.record(
      z.string(),
      z.object({
        version: z.string().optional(),
        resolved: z.string().optional(),
        link: z.boolean().optional(),
        optionalDependencies: z.record(z.string(), z.string()).default({}),
      }),
    ),
  })
  const lock = lockSchema.parse(JSON.parse(readProjectText('package-lock.json'))).packages

  test('is pinned to exact versions', () => {
    for (const folder of ['.', ...packages.map((name) => `packages/${name}`)]) {
      const { dependencies, devDependencies } = manifestOf(folder)
      for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies })) {
        // Ours come from this very tree.
        expect(version, `${name} in ${folder}`).toMatch(name.startsWith('@quiver/') ? /^\*$/ : /^\d+\.\d+\.\d+(?:-[\w.]+)?$/)
      }
    }
  })

  test('comes from whatever registry the user has: the lock file names none', () => {
    const hosts = Object.entries(lock).filter(([, { resolved }]) => resolved?.includes('://'))
    expect(hosts).toEqual([])
  })

  test('is in the lock file for every platform, without which npm ci refuses to begin', () => {
    const optional = Object.values(lock).flatMap(({ optionalDependencies }) => Object.keys(optionalDependencies))
    const missing = optional.filter((name) => !Object.keys(lock).some((path) => path.endsWith(`node_modules/${name}`)))
    expect(missing).toEqual([])
    const withoutVersion = Object.entries(lock).filter(([, { version, link }]) => version === undefined && link !== true)
    expect(withoutVersion).toEqual([])
  })

  test('is set up by .npmrc: no CUDA download, no registry in the lock file', () => {
    const lines = readProjectText('.npmrc').split('\n')
    expect(lines).toContain('onnxruntime-node-install=skip')
    expect(lines).toContain('omit-lockfile-registry-resolved=true')
  })
})
