import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'

/** One tensor of an open safetensors file. */
export interface SafetensorsEntry {
  /** As written in the file: F32, F16, BF16, … */
  readonly dtype: string
  readonly shape: readonly number[]
  /** Where its bytes start in the file, and how many there are. */
  readonly offset: number
  readonly bytes: number
}

export interface SafetensorsHeader {
  readonly entries: ReadonlyMap<string, SafetensorsEntry>
  /** sha256 hex of the header with its length. */
  readonly sha256: string
}

/** The format's own limit: base models with many small tensors have headers beyond what an adapter's may have. */
const MAX_HEADER_BYTES = 100 * 1024 * 1024

const dtypeBytes: Readonly<Record<string, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
}

const count = z.int().nonnegative()
const headerSchema = z.record(
  z.string(),
  z.object({ dtype: z.string(), shape: z.array(count), data_offsets: z.tuple([count, count]) }),
)

/**
 * Reads and checks the header alone, so that a file of many gigabytes costs a few reads: every tensor lies inside the file, fits
 * its shape, and none overlaps another.
 * @throws ServingError `invalid_request` naming the file and the tensor at fault
 */
export async function readSafetensorsHeader(handle: FileHandle, path: string): Promise<SafetensorsHeader> {
  const damaged = (what: string): ServingError =>
    new ServingError('invalid_request', `${path} is not a readable safetensors file: ${what}`)
  const { size } = await handle.stat()
  const prefix = Buffer.alloc(8)
  if (size < 8 || (await handle.read(prefix, 0, 8, 0)).bytesRead < 8) throw damaged(`it has only ${size} bytes`)
  const length = prefix.readBigUInt64LE()
  if (length > BigInt(MAX_HEADER_BYTES)) throw damaged(`its header would have ${length} bytes, more than ${MAX_HEADER_BYTES}`)
  if (length > BigInt(size - 8)) throw damaged(`its header has ${length} bytes, but the file only ${size}: it is cut short`)
  const header = Buffer.alloc(Number(length))
  if ((await handle.read(header, 0, header.length, 8)).bytesRead < header.length) throw damaged('its header is cut short')
  const parsed = headerSchema.safeParse(withoutMetadata(header, damaged))
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw damaged(`header field ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`)
  }
  const entries = new Map<string, SafetensorsEntry>()
  const dataStart = 8 + header.length
  let end = 0
  const sorted = Object.entries(parsed.data).toSorted(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0])
  for (const [name, { dtype, shape, data_offsets }] of sorted) {
    const [from, to] = data_offsets
    if (from !== end || to < from)
      throw damaged(`tensor ${name} has bytes ${from} to ${to}, but the one before it ends at ${end}`)
    end = to
    const elementBytes = Object.hasOwn(dtypeBytes, dtype) ? dtypeBytes[dtype] : undefined
    if (elementBytes !== undefined && shape.reduce((product, n) => product * n, elementBytes) !== to - from) {
      throw damaged(`tensor ${name} of ${dtype} [${shape.join(', ')}] cannot take ${to - from} bytes`)
    }
    entries.set(name, { dtype, shape, offset: dataStart + from, bytes: to - from })
  }
  if (dataStart + end !== size) throw damaged(`its tensors end at byte ${dataStart + end}, but the file has ${size}`)
  return { entries, sha256: createHash('sha256').update(prefix).update(header).digest('hex') }
}

function withoutMetadata(header: Buffer, damaged: (what: string) => ServingError): unknown {
  let parsed: unknown
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(header))
  } catch (cause) {
    throw damaged(`its header is not JSON: ${cause instanceof Error ? cause.message : cause}`)
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw damaged('its header is not a JSON object')
  return Object.fromEntries(Object.entries(parsed).filter(([key]) => key !== '__metadata__'))
}
