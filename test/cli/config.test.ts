import { describe, expect, test } from 'vitest'
import { readConfig, toEnvironment } from '../../packages/cli/src/config.ts'
import { flagKey } from '../../packages/cli/src/given-option.ts'
import { optionKeys, optionNames } from '../../packages/cli/src/option-names.ts'
import type { Surroundings } from '../../packages/cli/src/option-schema.ts'

const around = (env: Record<string, string> = {}): Surroundings => ({ env, cwd: '/here', home: '/home/me', processors: 6 })

describe('defaults', () => {
  test('are what the README says', () => {
    expect(readConfig({}, around()).config).toMatchObject({
      port: 8080,
      host: '127.0.0.1',
      data: '/here/quiver-data',
      store: 'file:///here/quiver-data/store',
      model: 'smollm2-135m-instruct',
      dtype: 'int8',
      slots: 32,
      maxRank: 64,
      sequences: 32,
      totalTokens: 2048,
      localRoots: [],
      cache: '/home/me/.cache/quiver',
      hubHome: '/home/me/.cache/huggingface',
      threads: 6,
    })
  })
})

describe('reading', () => {
  test('a flag wins over the environment, the environment over the default; an empty variable is not set', () => {
    const { config, origins } = readConfig({ port: '1' }, around({ QUIVER_PORT: '2', QUIVER_SLOTS: '3', QUIVER_MAX_RANK: '' }))
    expect([config.port, config.slots, config.maxRank]).toEqual([1, 3, 64])
    expect([origins.port, origins.slots, origins.maxRank]).toEqual(['flag', 'environment', 'default'])
  })

  test('folders are made absolute, a tilde is the home, roots are split at colons', () => {
    const { config } = readConfig({ localRoots: 'a::/b:~/c' }, around({ QUIVER_DATA: '../d', QUIVER_CACHE: '~' }))
    expect([config.localRoots, config.data, config.cache]).toEqual([['/here/a', '/b', '/home/me/c'], '/d', '/home/me'])
    expect(config.store).toBe('file:///d/store')
  })

  test('an environment made from a configuration reads as the same configuration', () => {
    const { config } = readConfig({ localRoots: '/a:/b', s3Buckets: 'a-b/c,d-e', dtype: 'fp32', hubToken: 'x' }, around())
    expect(readConfig({}, { ...around(toEnvironment(config)), cwd: '/elsewhere' }).config).toEqual(config)
  })
})

describe('refusing', () => {
  test.each([
    ['QUIVER_PORT', 'abc', 'QUIVER_PORT is "abc", but must be a whole number from 0 to 65535'],
    ['QUIVER_PORT', '65536', 'QUIVER_PORT is "65536", but must be a whole number from 0 to 65535'],
    ['QUIVER_PORT', '-1', 'QUIVER_PORT is "-1", but must be a whole number from 0 to 65535'],
    ['QUIVER_HOST', ' ', 'QUIVER_HOST is " ", but must be a host name or address'],
    ['QUIVER_DTYPE', 'int9', 'QUIVER_DTYPE is "int9", but must be one of int8, int4, fp32'],
    ['QUIVER_SLOTS', '0', 'QUIVER_SLOTS is "0", but must be a whole number from 1 to 1024'],
    ['QUIVER_SLOTS', '1e2', 'QUIVER_SLOTS is "1e2", but must be a whole number from 1 to 1024'],
    ['QUIVER_MAX_RANK', '1000', 'QUIVER_MAX_RANK is "1000", but must be a whole number from 1 to 512'],
    ['HF_ENDPOINT', 'hub', 'HF_ENDPOINT is "hub", but must be an http:// or https:// address'],
    [
      'QUIVER_S3_BUCKETS',
      'a-b,../c',
      'QUIVER_S3_BUCKETS is "a-b,../c", but must be buckets joined by commas, such as models,shared/adapters',
    ],
    [
      'QUIVER_STORE',
      'https://bucket',
      'QUIVER_STORE is "https://bucket", but must be an address such as file:///path or s3://bucket/prefix',
    ],
    ['QUIVER_S3_ENDPOINT', 'host:9000', 'QUIVER_S3_ENDPOINT is "host:9000", but must be an http:// or https:// address'],
    ['QUIVER_S3_REGION', 'a b', 'QUIVER_S3_REGION is "a b", but must be the name of a region, such as eu-central-1'],
  ])('%s=%s is one line that names variable, value and what is allowed', (name, value, message) => {
    expect(() => readConfig({}, around({ [name]: value }))).toThrow(message)
  })

  test('a flag is called by its own name', () => {
    expect(() => readConfig({ maxRank: 'x' }, around())).toThrow('--max-rank is "x", but must be a whole number from 1 to 512')
  })
})

test('every option has a flag and a variable of its own', () => {
  for (const field of ['env', 'flag'] as const) {
    expect(new Set(optionKeys.map((key) => optionNames[key][field])).size).toBe(optionKeys.length)
  }
  expect(flagKey(optionNames.maxRank)).toBe('maxRank')
})
