import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { buffer } from 'node:stream/consumers'
import { expect, it } from 'vitest'
import { withZipEntry } from '../../../packages/worker/src/model/zip-entry.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'
import { buildZip } from '../../support/zip-builder.ts'

const content = Buffer.from('some content '.repeat(10_000))
const zip = buildZip([
  { name: 'first', content: Buffer.from('1') },
  { name: 'a/packed', content },
  { name: 'a/stored', content, stored: true },
])

async function readEntry(bytes: Buffer, name: string): Promise<Buffer> {
  const file = path.join(await temporaryFolder(), 'file.zip')
  await writeFile(file, bytes)
  return await withZipEntry(file, name, buffer)
}

it.each(['a/packed', 'a/stored'])('reads %s', async (name) => {
  expect(await readEntry(zip, name)).toEqual(content)
})

it.each([
  ['no such entry', zip, 'a/other', /has no entry a\/other/],
  ['no zip', Buffer.from('hello'), 'a', /it has no directory/],
  ['a file cut short', zip.subarray(0, -30), 'first', /it has no directory/],
  [
    'a directory outside the file',
    Buffer.concat([zip.subarray(0, -6), Buffer.from('ffffff7f0000', 'hex')]),
    'first',
    /its directory of .* lies outside the file/,
  ],
])('refuses %s', async (_what, bytes, name, message) => {
  await expect(readEntry(bytes, name)).rejects.toThrow(message)
})
