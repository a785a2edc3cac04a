import { describe, expect, it } from 'vitest'
import { MAX_HEADER_BYTES, readSafetensors } from '../../../packages/cache/src/format/safetensors.ts'
import { f32Tensor, rawSafetensors, safetensors } from '../../support/adapter-files.ts'
import { refusal } from '../../support/refusal.ts'

const file = (length: bigint, rest = 2): Uint8Array<ArrayBuffer> => {
  const bytes = new Uint8Array(new ArrayBuffer(8 + rest))
  new DataView(bytes.buffer).setBigUint64(0, length, true)
  return bytes
}
const one = (entry: string, bytes = 8): Uint8Array<ArrayBuffer> => rawSafetensors(`{"t":${entry}}`, new Uint8Array(bytes))
const entry = (shape: string, offsets: string, dtype = '"F32"'): string =>
  `{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}`
const sameRange = (): Uint8Array<ArrayBuffer> => {
  const entries = Array.from({ length: 20_000 }, (_, i) => `"t${i}":${entry('[2]', '[0,8]')}`)
  return rawSafetensors(`{${entries.join(',')}}`, new Uint8Array(8))
}

const refused: readonly (readonly [string, () => Uint8Array<ArrayBuffer>, RegExp])[] = [
  ['S01 an empty file', () => new Uint8Array(new ArrayBuffer(0)), /has 0 bytes/],
  ['S01 seven bytes', () => new Uint8Array(new ArrayBuffer(7)), /has 7 bytes/],
  ['S01 a header of no bytes', () => file(0n, 0), /header of 0 bytes/],
  ['S02 a header longer than the file', () => file(100n), /header of 100 bytes; the file has 10/],
  ['S02 a header length of 2^64−1', () => file(2n ** 64n - 1n), /18446744073709551615/],
  ['S02 a header length of 2^53+1', () => file(2n ** 53n + 1n), /9007199254740993/],
  ['S02 a header above the cap', () => file(BigInt(MAX_HEADER_BYTES) + 1n, MAX_HEADER_BYTES + 1), /the limit is 4194304/],
  ['S03 a header that is not UTF-8', () => rawSafetensors(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)), /not UTF-8/],
  ['S03 a header with a byte order mark', () => rawSafetensors('\ufeff{}'), /not strict JSON/],
  ['S03 a header that is not JSON', () => rawSafetensors('{nope}'), /key in double quotes/],
  ['S03 a header that is a list', () => rawSafetensors('[]'), /is a list of 0, not an object/],
  ['S03 text after the header', () => rawSafetensors('{} x'), /goes on after the end/],
  ['S03 a header that ends early', () => rawSafetensors('{"t":'), /ends too early/],
  [
    'S05 a repeated tensor',
    () => rawSafetensors(`{"t":${entry('[1]', '[0,4]')},"t":${entry('[1]', '[4,8]')}}`, new Uint8Array(8)),
    /"t" stands there twice/,
  ],
  [
    'S05 a repeated tensor, once escaped',
    () => rawSafetensors(`{"t":${entry('[1]', '[0,4]')},"\\u0074":${entry('[1]', '[4,8]')}}`, new Uint8Array(8)),
    /twice/,
  ],
  [
    'S05 a repeated dtype',
    () => one('{"dtype":"F16","dtype":"F32","shape":[2],"data_offsets":[0,8]}'),
    /"dtype" stands there twice/,
  ],
  ['S06 metadata that is no text', () => rawSafetensors('{"__metadata__":{"n":1}}'), /__metadata__ "n" .* is 1, not a string/],
  ['S06 metadata that is a list', () => rawSafetensors('{"__metadata__":[]}'), /__metadata__ .* not an object/],
  ['S08 offsets that run backwards', () => one(entry('[2]', '[8,0]')), /run backwards: 8 to 0/],
  ['S08 a negative offset', () => one(entry('[2]', '[-8,0]')), /data_offsets of tensor "t" holds -8/],
  ['S08 a fractional offset', () => one(entry('[2]', '[0,8.0]')), /holds 8.0/],
  ['S08 offsets as strings', () => one(entry('[2]', '["0","8"]')), /holds "0"/],
  ['S08 an offset of 2^53', () => one(entry('[2]', '[0,9007199254740992]')), /holds 9007199254740992/],
  ['S08 an offset in exponent form', () => one(entry('[2]', '[0,8e0]')), /holds 8e0/],
  ['S08 three offsets', () => one(entry('[2]', '[0,8,8]')), /must be \[begin, end\]/],
  [
    'S09 a gap',
    () => rawSafetensors(`{"a":${entry('[1]', '[0,4]')},"b":${entry('[1]', '[8,12]')}}`, new Uint8Array(12)),
    /"b" at offset 8 leaves a gap; 4 is expected/,
  ],
  [
    'S09 an overlap',
    () => rawSafetensors(`{"a":${entry('[2]', '[0,8]')},"b":${entry('[2]', '[4,12]')}}`, new Uint8Array(12)),
    /"b" at offset 4 overlaps/,
  ],
  ['S09 many tensors on one range', sameRange, /overlaps another tensor/],
  ['S09 data behind the last tensor', () => one(entry('[2]', '[0,8]'), 9), /1 bytes that belong to no tensor/],
  ['S09 two bytes too few', () => one(entry('[2]', '[0,8]'), 6), /2 bytes short/],
  ['S10 a shape that is too large', () => one(entry('[3]', '[0,8]')), /shape \[3\] and dtype F32 does not fill its 8 bytes/],
  ['S10 a product beyond 2^64', () => one(entry('[4611686018427387904,4]', '[0,0]'), 0), /holds 4611686018427387904/],
  ['S10 a product beyond 2^53', () => one(entry('[4503599627370496,4503599627370496]', '[0,0]'), 0), /does not fill/],
  ['S10 four-bit elements on half a byte', () => one(entry('[3]', '[0,2]', '"F4"'), 2), /does not fill/],
  ['S10 a negative dimension', () => one(entry('[-2]', '[0,8]')), /shape of tensor "t" holds -2/],
  ['S10 nine dimensions', () => one(entry('[1,1,1,1,1,1,1,1,2]', '[0,8]')), /9 dimensions/],
  ['S11 an unknown dtype', () => one(entry('[2]', '[0,8]', '"F12"')), /unknown dtype "F12"/],
  ['S11 a dtype that is no text', () => one(entry('[2]', '[0,8]', '32')), /unknown dtype 32/],
  ['S16 a pickle under this name', () => Uint8Array.from([0x80, 2, 0x7d, 0x71, 0, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e]), /pickle/],
  ['S16 a zip file under this name', () => Uint8Array.from([0x50, 0x4b, 3, 4, 20, 0, 0, 8, 8, 0, 0, 0]), /pickle or zip/],
  ['an entry that is a number', () => one('1'), /is 1, not an object/],
  [
    'a field of a later format',
    () => one('{"dtype":"F32","shape":[2],"data_offsets":[0,8],"stride":[1]}'),
    /unknown field "stride"/,
  ],
  ['a header nested 10^5 deep', () => rawSafetensors('['.repeat(100_000)), /nested deeper/],
]

describe('the safetensors reader', () => {
  it.each(refused)('refuses %s and says where', async (_, build, message) => {
    const error = await refusal(() => readSafetensors(build()))
    expect(error.code).toBe('adapter_invalid')
    expect(error.message).toMatch(message)
    expect(error.message.length).toBeLessThan(500)
  })

  const accepted: readonly (readonly [string, Uint8Array<ArrayBuffer>, number])[] = [
    ['S04 white space before and behind the header', rawSafetensors(` \n{"t":${entry('[2]', '[0,8]')}}  `, new Uint8Array(8)), 1],
    ['S06 empty metadata', rawSafetensors('{"__metadata__":{}}'), 0],
    ['S12 a file without tensors', rawSafetensors('{}'), 0],
    ['S12 a tensor without elements', one(entry('[0,4]', '[0,0]'), 0), 1],
    ['S12 a tensor without dimensions', one(entry('[]', '[0,4]'), 4), 1],
    [
      'tensors in another order than their bytes',
      rawSafetensors(`{"b":${entry('[1]', '[4,8]')},"a":${entry('[1]', '[0,4]')}}`, new Uint8Array(8)),
      2,
    ],
  ]
  it.each(accepted)('accepts %s', (_, bytes, count) => {
    expect(readSafetensors(bytes).size).toBe(count)
  })

  it('S07 keeps a tensor named __proto__ as a tensor and no prototype', () => {
    const tensors = readSafetensors(rawSafetensors(`{"__proto__":${entry('[2]', '[0,8]')}}`, new Uint8Array(8)))
    expect([...tensors.keys()]).toEqual(['__proto__'])
    expect(Object.hasOwn(Object.prototype, 'dtype')).toBe(false)
  })

  it('gives views of the file without copying', () => {
    const bytes = safetensors([f32Tensor('x', [2], [1, 2]), f32Tensor('y', [1], [3])])
    const y = readSafetensors(bytes).get('y')
    expect(y?.bytes.buffer).toBe(bytes.buffer)
    expect(y && new DataView(y.bytes.buffer, y.bytes.byteOffset).getFloat32(0, true)).toBe(3)
  })
})
