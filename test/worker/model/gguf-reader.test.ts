import { readFileSync } from 'node:fs'
import { open, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { ServingError } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { type GgufHeader, readGgufHeader } from '../../../packages/worker/src/model/gguf-reader.ts'
import { type BuilderFile, buildGguf, smallLlamaMetadata, smallLlamaTensors } from '../../support/gguf-builder.ts'
import { randomFrom, randomSeed } from '../../support/random-seed.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { tinyModel } from '../../support/tiny-models.ts'

const good: BuilderFile = { metadata: smallLlamaMetadata, tensors: smallLlamaTensors }
const [firstTensor] = smallLlamaTensors
if (firstTensor === undefined) throw new Error('the small model has tensors')
const withTensor = (change: object): BuilderFile => ({ ...good, tensors: [{ ...firstTensor, ...change }] })

async function readHeader(bytes: Buffer): Promise<GgufHeader> {
  const file = path.join(await temporaryFolder(), 'model.gguf')
  await writeFile(file, bytes)
  const handle = await open(file)
  try {
    return await readGgufHeader(handle, file)
  } finally {
    await handle.close()
  }
}

describe('a whole file', () => {
  it.each([2, 3])('of version %i gives its metadata and tensors', async (version) => {
    const header = await readHeader(buildGguf({ ...good, version }))
    expect(header.version).toBe(version)
    expect(header.metadata.text('general.architecture')).toBe('llama')
    expect(header.metadata.texts('tokenizer.ggml.tokens')).toEqual(['a', 'b', 'c', 'd'])
    expect(header.tensors.get('token_embd.weight')).toMatchObject({ shape: [4, 32], elements: 128, bytes: 512 })
    expect(header.headerSha256).toMatch(/^[0-9a-f]{64}$/)
  })

  it('refuses a metadata key of another type than asked for, by name', async () => {
    const { metadata } = await readHeader(buildGguf(good))
    expect(() => metadata.count('general.architecture')).toThrow(
      /general\.architecture has the wrong type: expected integer, found string/,
    )
  })
})

describe('a damaged file is refused and the message names what is wrong', () => {
  const twice = smallLlamaMetadata[0]
  if (twice === undefined) throw new Error('the small model has metadata')
  const cases: readonly (readonly [string, Buffer, RegExp])[] = [
    ['another magic', Buffer.concat([Buffer.from('GGML'), buildGguf(good).subarray(4)]), /does not start with "GGUF"/],
    ['an empty file', Buffer.alloc(0), /ends at byte 0, inside the magic/],
    ['version 1', buildGguf({ ...good, version: 1 }), /version 1 is not supported; supported: 2 and 3/],
    ['version 9', buildGguf({ ...good, version: 9 }), /version 9 is not supported/],
    ['big-endian numbers', buildGguf({ ...good, version: 0x03000000 }), /big-endian/],
    ['2^63 tensors', buildGguf({ ...good, tensorCount: 2n ** 63n }), /tensor count is 9223372036854775808, more than 65536/],
    ['more metadata than bytes', buildGguf({ ...good, metadataCount: 60_000n }), /metadata count is 60000, more than the file's/],
    ['metadata twice', buildGguf({ ...good, metadata: [twice, twice] }), /metadata general\.architecture is there twice/],
    [
      'a boolean of 7',
      buildGguf({ ...good, metadata: [['x', { type: 'bool', value: 7 }]] }),
      /metadata x is a boolean with the value 7/,
    ],
    [
      'an alignment of 48',
      buildGguf({ ...good, metadata: [['general.alignment', { type: 'u32', value: 48 }]] }),
      /general\.alignment is 48; it must be a power of two/,
    ],
    ['a tensor twice', buildGguf({ ...good, tensors: [firstTensor, firstTensor] }), /tensor token_embd\.weight is there twice/],
    ['no dimensions', buildGguf(withTensor({ shape: [] })), /token_embd\.weight has 0 dimensions/],
    ['an empty dimension', buildGguf(withTensor({ shape: [0, 32] })), /dimension 1 of tensor token_embd\.weight is 0/],
    [
      '2^60 elements',
      buildGguf(withTensor({ shape: [2 ** 30, 2 ** 30] })),
      /dimension 1 of tensor token_embd\.weight is 1073741824/,
    ],
    ['type number 99', buildGguf(withTensor({ type: 99 })), /token_embd\.weight has the unknown type number 99/],
    [
      'rows that blocks do not fill',
      buildGguf(withTensor({ shape: [4, 33], type: 2 })),
      /rows of 33, which Q4_0 blocks of 32 do not fill/,
    ],
    ['an odd offset', buildGguf(withTensor({ offset: 8 })), /starts at 8, not a multiple of the alignment 32/],
    ['an offset past the end', buildGguf(withTensor({ offset: 64, bytes: -64 })), /tensor token_embd\.weight ends at byte/],
    [
      'tensors over each other',
      buildGguf({ ...good, tensors: [firstTensor, { ...firstTensor, name: 'other', offset: 256 }] }),
      /tensor other overlaps tensor token_embd\.weight/,
    ],
    ['missing data', buildGguf(good).subarray(0, -40), /tensor blk\.0\.ffn_down\.weight ends at byte .*: it is cut short/],
  ]
  it.each(cases)('%s', async (_what, bytes, message) => {
    await expect(readHeader(bytes)).rejects.toThrow(message)
  })
})

describe('hostile bytes', () => {
  const seed = randomSeed('gguf bytes')

  it(`end in a refusal or a header, never in another error (SEED=${seed})`, async () => {
    const whole = readFileSync(tinyModel('gguf-llama-q4_0').path)
    const random = randomFrom(seed)
    const folder = await temporaryFolder()
    for (let round = 0; round < 150; round++) {
      const bytes = Buffer.from(whole.subarray(0, random() < 0.3 ? Math.floor(random() * whole.length) : whole.length))
      for (let flip = 0; flip < 4 && bytes.length > 0; flip++)
        bytes[Math.floor(random() * Math.min(bytes.length, 9000))] = Math.floor(random() * 256)
      const file = path.join(folder, 'hostile.gguf')
      await writeFile(file, bytes)
      const handle = await open(file)
      const error = await readGgufHeader(handle, file).then(
        () => undefined,
        (thrown: unknown) => thrown,
      )
      await handle.close()
      expect(error === undefined || error instanceof ServingError, `round ${round}: ${error}`).toBe(true)
    }
  })
})
