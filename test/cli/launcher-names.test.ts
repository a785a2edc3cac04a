import { describe, expect, test } from 'vitest'
import { readConfig } from '../../packages/cli/src/config.ts'
import type { ConfigKey, Surroundings } from '../../packages/cli/src/option-schema.ts'

const around = (env: Record<string, string> = {}): Surroundings => ({ env, cwd: '/here', home: '/home/me', processors: 6 })

describe("TGI's and LoRAX's names", () => {
  test.each<[string, string, ConfigKey, unknown]>([
    ['MODEL_ID', 'org/name', 'model', 'org/name'],
    ['PORT', '80', 'port', 80],
    ['HOSTNAME', '0.0.0.0', 'host', '0.0.0.0'],
    ['HOSTNAME', '::', 'host', '::'],
    ['MAX_INPUT_LENGTH', '1024', 'maxInputTokens', 1024],
    ['MAX_INPUT_TOKENS', '1023', 'maxInputTokens', 1023],
    ['MAX_TOTAL_TOKENS', '4096', 'totalTokens', 4096],
    ['MAX_CONCURRENT_REQUESTS', '128', 'maxConcurrentRequests', 128],
    ['MAX_BEST_OF', '4', 'maxBestOf', 4],
    ['MAX_STOP_SEQUENCES', '20', 'maxStopSequences', 20],
    ['MAX_ACTIVE_ADAPTERS', '1024', 'slots', 1024],
    ['SPECULATE', '0', 'speculation', 0],
    ['SPECULATIVE_TOKENS', '3', 'speculation', 3],
    ['ADAPTER_SOURCE', 'Local', 'adapterSource', 'local'],
    ['ADAPTER_SOURCE', 'hub', 'adapterSource', 'hub'],
    ['HF_TOKEN', 'hf_1', 'hubToken', 'hf_1'],
    ['HUGGING_FACE_HUB_TOKEN', 'hf_2', 'hubToken', 'hf_2'],
  ])('%s=%s is understood', (name, text, key, value) => {
    const { config, origins, givenBy } = readConfig({}, around({ [name]: text }))
    expect([config[key], origins[key], givenBy[key]]).toEqual([value, 'environment', name])
  })

  test.each<[string, string, ConfigKey, unknown]>([
    ['modelId', 'org/name', 'model', 'org/name'],
    ['hostname', '::1', 'host', '::1'],
    ['maxTotalTokens', '4096', 'totalTokens', 4096],
    ['maxInputLength', '9', 'maxInputTokens', 9],
    ['maxActiveAdapters', '7', 'slots', 7],
  ])('the flag %s %s too', (flag, text, key, value) => {
    expect(readConfig({ [flag]: text }, around()).config[key]).toEqual(value)
  })

  test('ours win over theirs, and any flag over the environment', () => {
    const env = { QUIVER_MODEL: 'ours', MODEL_ID: 'theirs', PORT: '1', QUIVER_PORT: '2' }
    expect(readConfig({}, around(env)).config).toMatchObject({ model: 'ours', port: 2 })
    expect(readConfig({ modelId: 'flag' }, around(env)).config.model).toBe('flag')
  })

  test('HOSTNAME that is no address, as every container has it, is not taken', () => {
    const { config, origins } = readConfig({}, around({ HOSTNAME: '3f2a9c1b7d4e' }))
    expect([config.host, origins.host]).toEqual(['127.0.0.1', 'default'])
  })

  test('a wrong value is called by the name that it was given by', () => {
    expect(() => readConfig({}, around({ MAX_BEST_OF: 'x' }))).toThrow('MAX_BEST_OF is "x", but must be a whole number')
    expect(() => readConfig({ maxTotalTokens: 'x' }, around())).toThrow('--max-total-tokens is "x", but must be')
  })
})

test('what has no effect is accepted and named', () => {
  const env = { MAX_BATCH_PREFILL_TOKENS: '4096', ADAPTER_SOURCE: 'pbase' }
  const { config, notices } = readConfig({ maxBatchTotalTokens: '9' }, around(env))
  expect(config.chunkTokens).toBe(128)
  expect(notices.map((notice) => notice.split(':')[0])).toEqual([
    'MAX_BATCH_PREFILL_TOKENS has no effect',
    '--max-batch-total-tokens has no effect',
    'Adapter source pbase is not offered',
  ])
  expect(readConfig({}, around()).notices).toEqual([])
})
