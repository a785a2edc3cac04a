/** A file of the hub into memory: resumed after a cut, and checked against the digest that the hub lists. */
import { createHash } from 'node:crypto'
import { ServingError } from '@quiver/protocol'
import { sha256Hex } from '../format/digest.ts'
import { type HubClient, type HubFile, reasonOf } from './hub-client.ts'
import { backoffMs, isTransient, MAX_FRUITLESS_ATTEMPTS, type RetryDeps } from './retries.ts'
import { sleep, stopped } from './sleep.ts'
import { readWithin } from './stall-guard.ts'

/** Connections over which one file may come. */
const MAX_ATTEMPTS = 20
/** Times that a whole file is fetched anew because its digest was wrong. */
const MAX_WRONG_DIGESTS = 1
/** A connection that brings nothing for this long is broken. */
const STALL_MS = 15_000
const HASH_SLICE_BYTES = 1024 * 1024

export interface HubBytes {
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly sha256: string
}

/** Where a file is: a repository at a commit. */
export interface HubPlace {
  readonly repo: string
  readonly commit: string
}

/**
 * Reads a whole file. Its size was judged before: a buffer of that size is made at once, and nothing beyond it is taken.
 * @throws ServingError `source_unavailable` when the connection keeps breaking or the content is not what the hub lists, what
 * `HubClient` throws, `client_closed` when `signal` is aborted
 */
export async function readHubFile(client: HubClient, place: HubPlace, file: HubFile, deps: RetryDeps): Promise<HubBytes> {
  for (let wrong = 0; ; wrong++) {
    const bytes = await fill(client, place, file, deps)
    const sha256 = await sha256Hex(bytes)
    if (deps.signal.aborted) throw stopped()
    if ((file.digest.kind === 'sha256' ? sha256 : gitBlobId(bytes)) === file.digest.hex) return { bytes, sha256 }
    if (wrong < MAX_WRONG_DIGESTS) continue
    throw new ServingError(
      'source_unavailable',
      `${file.path} of ${place.repo} does not have the ${file.digest.kind} digest that the hub lists: it was not used`,
    )
  }
}

/** Over as many connections as it takes. Bytes of two contents never mix: with another etag it begins again. */
async function fill(client: HubClient, place: HubPlace, file: HubFile, deps: RetryDeps): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(new ArrayBuffer(file.bytes))
  let have = 0
  let etag: string | undefined
  let fruitless = 0
  for (let attempt = 1; have < file.bytes; attempt++) {
    const before = have
    let failure: unknown
    try {
      const open = await client.openFile({ ...place, file, from: have })
      if (etag !== undefined && open.etag !== etag) {
        await open.stream.cancel()
        have = 0
        etag = undefined
        throw new ServingError('source_unavailable', `${file.path} of ${place.repo} was replaced while it was being read`)
      }
      etag = open.etag
      for await (const chunk of readWithin(open.stream, STALL_MS, deps)) {
        if (have + chunk.length > file.bytes) {
          have = 0
          throw new ServingError('source_unavailable', `${file.path} of ${place.repo} is longer than the hub lists`)
        }
        bytes.set(chunk, have)
        have += chunk.length
      }
    } catch (error) {
      if (deps.signal.aborted) throw stopped()
      if (!isTransient(error)) throw error
      failure = error
    }
    if (have >= file.bytes) break
    fruitless = have > before ? 0 : fruitless + 1
    if (fruitless >= MAX_FRUITLESS_ATTEMPTS || attempt >= MAX_ATTEMPTS) {
      throw new ServingError(
        'source_unavailable',
        `${file.path} of ${place.repo} broke off ${attempt} times, at ${have} of ${file.bytes} bytes: ${reasonOf(failure ?? new Error('the connection was closed'))}`,
        {},
        { cause: failure },
      )
    }
    // A server that cannot give ranges gives nothing to a resumed request: begin again rather than never end.
    if (fruitless >= 2) have = 0
    await sleep(deps.timers, backoffMs(fruitless), deps.signal)
  }
  return bytes
}

/** What git calls a file of this content. Only small files are checked by it; large ones have a sha256. */
function gitBlobId(bytes: Uint8Array): string {
  const hash = createHash('sha1').update(`blob ${bytes.length}\0`)
  for (let offset = 0; offset < bytes.length; offset += HASH_SLICE_BYTES) {
    hash.update(bytes.subarray(offset, offset + HASH_SLICE_BYTES))
  }
  return hash.digest('hex')
}
