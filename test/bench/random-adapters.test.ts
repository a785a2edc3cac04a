import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { expect, test } from 'vitest'
import { randomPacked, writePeftFolder } from '../../bench/engine/random-adapters.ts'
import { RandomWeights } from '../../bench/engine/random-weights.ts'
import { promptOf } from '../../bench/engine/whole-request.ts'
import { seededRandom } from '../../bench/shared/random.ts'
import { readAdapter } from '../../packages/cache/src/format/inspect.ts'
import { readPacked } from '../../packages/cache/src/format/packed-file.ts'
import { tinyLayout } from '../support/adapter-files.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

const shape = { layout: tinyLayout, rank: 3 }

test('a random PEFT folder is a valid adapter on all modules, and another one each time', async () => {
  const folder = await temporaryFolder()
  const weights = new RandomWeights(seededRandom(3))
  const files = []
  for (const name of ['a', 'b']) {
    await writePeftFolder(path.join(folder, name), shape, weights)
    const read = async (file: string) => new Uint8Array(await readFile(path.join(folder, name, file)))
    files.push({ config: await read('adapter_config.json'), weights: await read('adapter_model.safetensors') })
  }
  for (const file of files) {
    const { rank, pairs } = await readAdapter(file, tinyLayout, 8)
    expect(rank).toBe(3)
    expect(pairs).toHaveLength(tinyLayout.layerCount * tinyLayout.modules.length)
  }
  expect(files[0]?.weights).not.toEqual(files[1]?.weights)
})

test.each(['f16', 'f32'] as const)('a random packed adapter in %s is read back from its file', async (dtype) => {
  const { digest, file, adapter } = await randomPacked('x', shape, dtype, new RandomWeights(seededRandom(3)))
  const { modules } = await readPacked(file, { digest, layout: tinyLayout, dtype })
  expect(modules).toEqual(adapter.modules)
  expect(modules.flatMap(({ a }) => [...a]).some((weight) => weight !== 0)).toBe(true)
})

test('a prompt has exactly the tokens that were asked for', () => {
  const words = { encode: (text: string) => text.split(' ').map((_, i) => i) }
  expect(words.encode(promptOf(words, 70))).toHaveLength(70)
  const pairs = { encode: (text: string) => text.split(' ').flatMap((_, i) => [i, i]) }
  expect(() => promptOf(pairs, 71)).toThrow('no prompt of 71 tokens')
})
