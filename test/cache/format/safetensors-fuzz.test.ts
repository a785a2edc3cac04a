import { ServingError } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { inspectAdapter } from '../../../packages/cache/src/format/inspect.ts'
import { readSafetensors } from '../../../packages/cache/src/format/safetensors.ts'
import { buildAdapter, tinyLayout } from '../../support/adapter-files.ts'
import { randomFrom, randomSeed } from '../../support/random-seed.ts'

const MUTANTS = 4_000
/** Pieces of text at which parsers stumble. */
const SPLINTERS = [
  '"',
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '\\u0000',
  '1e999',
  '-0',
  '9007199254740993',
  '__proto__',
  'null',
  ' ',
  '\u0000',
]

describe('the adapter readers under mutation', () => {
  it(`S18 ${MUTANTS} mutants end in an answer or a ServingError, and nothing else`, async () => {
    const random = randomFrom(randomSeed('safetensors mutants'))
    const pick = (below: number): number => Math.floor(random() * below)
    const sound = buildAdapter()
    const headerBytes = Number(new DataView(sound.weights.buffer).getBigUint64(0, true))
    let refused = 0
    for (let i = 0; i < MUTANTS; i++) {
      let mutant: Uint8Array<ArrayBuffer> = sound.weights.slice()
      for (let changes = 1 + pick(3); changes > 0; changes--) mutant = mutate(mutant, headerBytes, pick)
      try {
        readSafetensors(mutant)
        await inspectAdapter(sound.config, mutant, tinyLayout, 8)
      } catch (thrown) {
        refused += 1
        expect(thrown, `mutant ${i}`).toBeInstanceOf(ServingError)
        expect(thrown instanceof ServingError && thrown.code).toBe('adapter_invalid')
      }
    }
    // Most changes to the header break the file; some bytes of weights may be anything.
    expect(refused).toBeGreaterThan(MUTANTS / 2)
    expect(refused).toBeLessThan(MUTANTS)
  })

  it('S18 mutants of the config end in an answer or a ServingError, and nothing else', async () => {
    const random = randomFrom(randomSeed('config mutants'))
    const pick = (below: number): number => Math.floor(random() * below)
    const sound = buildAdapter({
      config: { rank_pattern: { 'layers.1.self_attn.q_proj': 2 }, target_modules: '.*\\.(q|v)_proj' },
    })
    for (let i = 0; i < 2_000; i++) {
      const mutant = mutate(new Uint8Array(sound.config), sound.config.length, pick)
      try {
        await inspectAdapter(mutant, sound.weights, tinyLayout, 8)
      } catch (thrown) {
        expect(thrown, `mutant ${i}`).toBeInstanceOf(ServingError)
        expect(thrown instanceof ServingError && thrown.code).toBe('adapter_invalid')
      }
    }
  })
})

function mutate(file: Uint8Array<ArrayBuffer>, headerBytes: number, pick: (below: number) => number): Uint8Array<ArrayBuffer> {
  if (file.length === 0) return file
  // Three of four changes go to the length and the header, where structure is.
  const at = pick(4) === 0 ? pick(file.length) : pick(Math.min(file.length, 8 + headerBytes))
  switch (pick(5)) {
    case 0:
      file[at] = pick(256)
      return file
    case 1:
      return file.slice(0, at)
    case 2:
      return join(file.subarray(0, at), file.subarray(Math.min(file.length, at + 1 + pick(16))))
    case 3:
      return join(file.subarray(0, at), new TextEncoder().encode(SPLINTERS[pick(SPLINTERS.length)]), file.subarray(at))
    default:
      return join(file.subarray(0, at), file.subarray(Math.max(0, at - pick(64)), at), file.subarray(at))
  }
}

function join(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(parts))
}
