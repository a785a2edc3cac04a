/** Forms in any pieces: what was written is what is read, and whatever else comes is refused, never kept or hung on. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { multipartBoundary, readMultipart } from '../../../packages/gateway/src/routes/admin/multipart.ts'
import { randomSeed } from '../../support/random-seed.ts'

interface Part {
  readonly name: string
  readonly filename?: string | undefined
  readonly bytes: Uint8Array
}

const boundary = 'xYz-1'
/** Much of what looks like the boundary. */
const content = fc.array(
  fc.oneof(
    fc.constantFrom('\r\n', '--', '-', '\r', '\n', boundary, `\r\n--${boundary.slice(0, 3)}`, 'a'),
    fc.string({ maxLength: 3 }),
  ),
  { maxLength: 12 },
)
const part = fc.record({
  name: fc.stringMatching(/^[a-z._]{1,8}$/),
  filename: fc.option(fc.stringMatching(/^[a-z._ ]{0,8}$/), { nil: undefined }),
  bytes: content.map((pieces) => Buffer.from(pieces.join('').replaceAll(`\r\n--${boundary}`, ''))),
})

function written(parts: readonly Part[]): Buffer {
  const chunks = parts.flatMap(({ name, filename, bytes }) => [
    Buffer.from(
      `--${boundary}\r\nContent-Disposition: form-data; name="${name}"${filename === undefined ? '' : `; filename="${filename}"`}\r\n`,
    ),
    Buffer.from(filename === undefined ? '\r\n' : 'Content-Type: application/octet-stream\r\n\r\n'),
    bytes,
    Buffer.from('\r\n'),
  ])
  return Buffer.concat([...chunks, Buffer.from(`--${boundary}--\r\n`)])
}

async function read(body: Buffer, cuts: readonly number[]): Promise<Part[]> {
  const parts: { name: string; filename: string | undefined; chunks: Uint8Array[] }[] = []
  const at = [0, ...cuts.map((cut) => cut % (body.length + 1)).sort((a, b) => a - b), body.length]
  async function* chunks() {
    for (const [index, start] of at.slice(0, -1).entries()) yield body.subarray(start, at[index + 1])
  }
  await readMultipart(chunks(), boundary, {
    part({ name, filename }) {
      const one = { name, filename, chunks: [] as Uint8Array[] }
      parts.push(one)
      return (bytes) => one.chunks.push(Buffer.from(bytes))
    },
  })
  return parts.map(({ name, filename, chunks: all }) => ({ name, filename, bytes: Buffer.concat(all) }))
}

const cuts = fc.array(fc.nat({ max: 2000 }), { maxLength: 20 })

test('a form is read as it was written, wherever it is cut', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 4 }), cuts, async (parts, where) => {
      const found = await read(written(parts), where)
      expect(found.map(({ name, filename, bytes }) => [name, filename, Buffer.from(bytes).toString('latin1')])).toEqual(
        parts.map(({ name, filename, bytes }) => [name, filename, Buffer.from(bytes).toString('latin1')]),
      )
    }),
    { seed: randomSeed('forms'), numRuns: 500 },
  )
})

test('a form that is cut short or changed is refused, or read: nothing else', async () => {
  const body = written([
    { name: 'a', bytes: Buffer.from('one') },
    { name: 'b', filename: 'b', bytes: Buffer.from('two') },
  ])
  await fc.assert(
    fc.asyncProperty(
      fc.nat({ max: body.length - 1 }),
      fc.nat({ max: 255 }),
      fc.boolean(),
      cuts,
      async (at, byte, isCut, where) => {
        const changed = Buffer.from(body.subarray(0, isCut ? at : body.length))
        if (!isCut) changed[at] = byte
        await read(changed, where).catch((error: unknown) => expect(error).toMatchObject({ code: 'invalid_request' }))
        if (isCut && at < body.length - 2) await expect(read(changed, where)).rejects.toMatchObject({ code: 'invalid_request' })
      },
    ),
    { seed: randomSeed('broken forms'), numRuns: 500 },
  )
})

test.each([
  ['multipart/form-data; boundary=abc', 'abc'],
  ['Multipart/Form-Data; charset=utf-8; boundary="a b"', 'a b'],
])('the boundary of %s is read', (type, expected) => {
  expect(multipartBoundary(type)).toBe(expected)
})

test.each([
  [undefined, 'unsupported_media_type'],
  ['multipart/mixed; boundary=a', 'unsupported_media_type'],
  ['multipart/form-data', 'invalid_request'],
  ['multipart/form-data; boundary=', 'invalid_request'],
  ['multipart/form-data; boundary=a; boundary=b', 'invalid_request'],
  [`multipart/form-data; boundary=${'a'.repeat(71)}`, 'invalid_request'],
])('%s has none', (type, code) => {
  expect(() => multipartBoundary(type)).toThrow(expect.objectContaining({ code }))
})
