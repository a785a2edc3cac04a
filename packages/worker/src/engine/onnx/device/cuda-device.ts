/** A GPU through our own library (kernels/cuda/device_memory.h), called with koffi. */
import { nextTurn } from '@quiver/cache'
import { ServingError } from '@quiver/protocol'
import koffi, { type KoffiFunc, type LibraryHandle } from 'koffi'
import { loadNativeLibrary } from '../native-library.ts'
import type { Device, DevicePiece, DeviceSpan, StridedRuns } from './device.ts'
import { cudaFailure } from './device-faults.ts'

/** kernels/cuda/device_memory.h has the same numbers. */
const CUDA_INTERFACE = 1
const STAGING_PARTS = 2

/** Of pinned memory, twice; and so much of an adapter is copied into it in one turn of the event loop, in about a millisecond. */
const PART_BYTES = 4 * 1024 * 1024
const TEXT_BYTES = 512
/** to, offset in the part, bytes */
const PIECE_WORDS = 3

const text = ['void *', 'size_t'] as const
/** Arguments of the functions that answer a code and a sentence. */
const checked = {
  open: ['size_t', 'uint64_t *', ...text],
  memory: ['void *', 'uint64_t *', 'uint64_t *', ...text],
  allocate: ['void *', 'uint64_t', 'uint64_t *', ...text],
  copy: ['void *', 'uint64_t', 'uint64_t', 'uint64_t', 'uint64_t', 'uint64_t', ...text],
  read: ['void *', 'void *', 'uint64_t', 'uint64_t', ...text],
  send: ['void *', 'int', 'uint64_t *', 'uint64_t', ...text],
  is_free: ['void *', 'int', 'int *', ...text],
  fence: ['void *', ...text],
  wait: ['void *', ...text],
} as const
type CheckedName = keyof typeof checked | 'reserve'
type Functions = Readonly<Record<CheckedName, KoffiFunc<(...args: unknown[]) => unknown>>>

/**
 * Opens the first GPU.
 * @param libraryPath what `npm run build:cuda` made
 * @throws ServingError as device-faults.ts says; `internal` when the library is missing or of another version
 */
export function openCudaDevice(libraryPath: string): Device {
  return new CudaDevice(libraryPath)
}

class CudaDevice implements Device {
  readonly stream: bigint
  /** Kept reachable: koffi unmaps a library whose handle is collected. */
  readonly #library: LibraryHandle
  readonly #functions: Functions
  readonly #handle: bigint
  readonly #staging: readonly Uint8Array[]
  readonly #spans: DeviceSpan[] = []
  readonly #text = Buffer.from(new ArrayBuffer(TEXT_BYTES))
  #part = 0
  #sending: Promise<void> = Promise.resolve()
  #isClosed = false

  constructor(libraryPath: string) {
    this.#library = loadNativeLibrary(libraryPath)
    const version: unknown = this.#library.func('quiver_cuda_interface', 'int', [])()
    if (version !== CUDA_INTERFACE) {
      throw new ServingError('internal', `${libraryPath} has interface ${version}, not ${CUDA_INTERFACE}: build it again`)
    }
    const functions = Object.entries(checked).map(
      ([name, args]) => [name, this.#library.func(`quiver_device_${name}`, 'int', [...args])] as const,
    )
    const reserve = this.#library.func('quiver_lora_reserve', 'int', ['void *', 'int64_t', 'int64_t', 'int64_t', ...text])
    this.#functions = { ...Object.fromEntries(functions), reserve } as unknown as Functions
    const place = words(1)
    this.#call('open', PART_BYTES, place)
    this.#handle = place[0] ?? 0n
    this.stream = this.#address('stream')
    this.#staging = Array.from({ length: STAGING_PARTS }, (_, part) => {
      const address = this.#address('staging', part)
      return new Uint8Array(koffi.view(address, PART_BYTES))
    })
  }

  memory(): { free: number; total: number } {
    const [free, total] = [words(1), words(1)]
    this.#call('memory', this.#handle, free, total)
    return { free: Number(free[0]), total: Number(total[0]) }
  }

  allocate(bytes: number, what: string): DeviceSpan {
    const place = words(1)
    try {
      this.#call('allocate', this.#handle, bytes, place)
    } catch (thrown) {
      if (!(thrown instanceof ServingError) || thrown.code !== 'overloaded') throw thrown
      throw new ServingError('overloaded', `${what}: ${thrown.message}`, thrown.context, { cause: thrown })
    }
    const span = { address: place[0] ?? 0n, byteLength: bytes }
    this.#spans.push(span)
    return span
  }

  copy(to: bigint, from: bigint, { width, pitch, height }: StridedRuns): void {
    this.#call('copy', this.#handle, to, from, width, pitch, height)
  }

  /** One after another: a part of the staging memory has one writer. */
  send(pieces: readonly DevicePiece[]): Promise<void> {
    const sent = this.#sending.then(() => this.#send(pieces))
    this.#sending = sent.catch(() => {})
    return sent
  }

  fence(): void {
    this.#call('fence', this.#handle)
  }

  async wait(): Promise<void> {
    const said = Buffer.from(new ArrayBuffer(TEXT_BYTES))
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    this.#functions.wait.async(this.#handle, said, said.length, (error: unknown, code: unknown) =>
      error ? reject(error) : resolve(code),
    )
    throwFor(await promise, said)
  }

  read({ address, byteLength }: DeviceSpan): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(new ArrayBuffer(byteLength))
    this.#call('read', this.#handle, bytes, address, byteLength)
    return bytes
  }

  reserveLora({ rows, slots, maxRank }: { rows: number; slots: number; maxRank: number }): void {
    this.#call('reserve', this.#handle, rows, slots, maxRank)
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    const free = this.#library.func('quiver_device_free', 'void', ['void *', 'uint64_t'])
    for (const { address } of this.#spans) free(this.#handle, address)
    this.#library.func('quiver_device_close', 'void', ['void *'])(this.#handle)
  }

  async #send(pieces: readonly DevicePiece[]): Promise<void> {
    let [list, used] = [[] as bigint[], 0]
    await this.#freePart()
    const flush = async (): Promise<void> => {
      if (list.length === 0) return
      this.#call('send', this.#handle, this.#part, BigUint64Array.from(list), list.length / PIECE_WORDS)
      this.#part = (this.#part + 1) % STAGING_PARTS
      ;[list, used] = [[], 0]
      await nextTurn()
      await this.#freePart()
    }
    for (const { to, from } of pieces) {
      const bytes = new Uint8Array(from.buffer, from.byteOffset, from.byteLength)
      for (let start = 0; start < bytes.length; ) {
        if (used === PART_BYTES) await flush()
        const length = Math.min(bytes.length - start, PART_BYTES - used)
        this.#staging[this.#part]?.set(bytes.subarray(start, start + length), used)
        list.push(to + BigInt(start), BigInt(used), BigInt(length))
        used += length
        start += length
      }
    }
    await flush()
  }

  /** Until what was last sent from the next part has left it. */
  async #freePart(): Promise<void> {
    const isFree = new Int32Array(new ArrayBuffer(4))
    for (;;) {
      this.#call('is_free', this.#handle, this.#part, isFree)
      if (isFree[0] === 1) return
      await nextTurn()
    }
  }

  #call(name: CheckedName, ...args: unknown[]): void {
    throwFor(this.#functions[name](...args, this.#text, this.#text.length), this.#text)
  }

  #address(name: 'stream' | 'staging', ...args: number[]): bigint {
    const types = ['void *', ...args.map(() => 'int')]
    return BigInt(this.#library.func(`quiver_device_${name}`, 'uint64_t', types)(this.#handle, ...args) as bigint | number)
  }
}

/** Outside V8's heap, where nothing moves while a function writes into it. */
function words(count: number): BigUint64Array {
  return new BigUint64Array(new ArrayBuffer(count * 8))
}

function throwFor(code: unknown, said: Buffer): void {
  if (code === 0) return
  const end = said.indexOf(0)
  throw cudaFailure(Number(code), said.toString('utf8', 0, end < 0 ? undefined : end))
}
