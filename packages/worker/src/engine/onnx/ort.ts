/**
 * ONNX Runtime through its C API: the library that onnxruntime-node ships, called with koffi.
 *
 * `InferenceSession.run` of onnxruntime-node computes on the event loop's thread and copies every output; a step of a
 * language model would stop all HTTP for its whole length and copy the KV cache each time (docs/adr/0001). Here tensors
 * wrap memory that we own, the same tensor may be bound as input and output, and a run happens on another thread.
 *
 * `OrtGetApiBase()->GetApi(version)` answers a table of function pointers whose order never changes, so a function is an
 * index (onnxruntime_c_api.h). Every status is checked and released here; every handle has one owner who closes it.
 */
import { ServingError } from '@quiver/protocol'
import koffi, { type KoffiFunc, type LibraryHandle } from 'koffi'
import type { DeviceSpan } from './device/device.ts'
import { loadNativeLibrary } from './native-library.ts'
import { API_VERSION, functions, pointer, releases } from './ort-functions.ts'
import { runtimeLibraryPath } from './runtime-library.ts'

const SUPPORTED_VERSION = /^1\.(2\d|3\d)\./

type Handle = bigint
/** Of ONNX Runtime's levels: what fails, not what it wonders about. */
const LOG_ERROR = 3

/** ONNX element types that cross the boundary, with their number in TensorProto.DataType. */
export const elementType = { f32: 1, u8: 2, i32: 6, i64: 7, f16: 10, bf16: 16 } as const
export type ElementType = keyof typeof elementType
export type TensorData = Float32Array | Uint8Array | Int32Array | BigInt64Array | Uint16Array

/** The host's memory, or a piece of a device's. */
export type TensorMemory = TensorData | DeviceSpan

export interface Tensor {
  readonly handle: Handle
  /** What it wraps: reachable as long as the tensor is. Absent: memory of a device. */
  readonly memory?: ArrayBufferLike
  release(): void
}

export interface SessionOptions {
  readonly threads: number
  /** Libraries of operators that the model uses (kernels/). They stay loaded as long as the session. */
  readonly operatorLibraries?: readonly string[]
  /** ONNX Runtime's own keys, e.g. `session.intra_op.allow_spinning`. */
  readonly config?: Readonly<Record<string, string>>
  /** Options of the CUDA execution provider, which then computes what it can; absent: the CPU's computes everything. */
  readonly cuda?: Readonly<Record<string, string>>
  /** Writes a Chrome trace of every node to `<prefix>_<date>.json` when the session is closed. */
  readonly profilePrefix?: string
}

export interface Session {
  createBinding(): Binding
  close(): void
}

/** Named inputs and outputs of one kind of run. What is bound stays bound until bound anew; the caller keeps it alive. */
export interface Binding {
  bindInput(name: string, tensor: Tensor): void
  bindOutput(name: string, tensor: Tensor): void
  /** Runs off the event loop. One run of a session at a time. */
  run(): Promise<void>
  close(): void
}

export interface OnnxRuntime {
  readonly version: string
  /** Kept reachable: koffi unmaps a library whose handle is collected, and every function called after that crashes. */
  readonly libraries: readonly unknown[]
  /** Wraps `data` without a copy. The tensor keeps it alive and must itself be kept until no binding holds it. */
  tensor(type: ElementType, shape: readonly number[], data: TensorMemory): Tensor
  /** Loads a model file off the event loop. */
  createSession(modelPath: string, options: SessionOptions): Promise<Session>
  close(): void
}

type FunctionName = keyof typeof functions
type Releases = Readonly<Record<keyof typeof releases, (handle: Handle) => unknown>>
type Api = {
  call(name: FunctionName, ...args: unknown[]): void
  /** Calls a function whose last argument is where it puts a new handle. */
  create(name: FunctionName, ...args: unknown[]): Handle
  callAsync(name: FunctionName, ...args: unknown[]): Promise<void>
  createAsync(name: FunctionName, ...args: unknown[]): Promise<Handle>
  readonly release: Releases
}

function loadApi(path = runtimeLibraryPath()): { api: Api; version: string; library: LibraryHandle } {
  const { library, base } = openLibrary(path)
  const [getApi, getVersion] = koffi.decode(base, koffi.array(pointer, 2)) as [Handle, Handle]
  const version = koffi.decode(getVersion, koffi.proto('str', []))() as string
  const table = koffi.decode(getApi, koffi.proto(pointer, ['uint32_t']))(API_VERSION)
  if (!SUPPORTED_VERSION.test(version) || !table) {
    throw new ServingError(
      'source_unavailable',
      `ONNX Runtime ${version} in ${path} is not supported: this build needs 1.20 or newer; run \`npm ci\``,
    )
  }
  return { api: bindApi(table), version, library }
}

/** Told in words here: what the loader of the system says names neither the file nor what to do. */
function openLibrary(path: string): { library: LibraryHandle; base: unknown } {
  try {
    const library = loadNativeLibrary(path)
    return { library, base: library.func('OrtGetApiBase', pointer, [])() }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new ServingError(
      'source_unavailable',
      `ONNX Runtime cannot be loaded from ${path} (${reason}): run \`npm ci\` on this machine`,
      {},
      { cause },
    )
  }
}

function mapValues<K extends string, V, R>(record: Readonly<Record<K, V>>, map: (value: V) => R): Record<K, R> {
  return Object.fromEntries(Object.entries<V>(record).map(([key, value]) => [key, map(value)])) as Record<K, R>
}

/** Outside V8's heap, because a call on another thread writes to it while a collection may move what is inside. */
function handlePlace(): BigUint64Array {
  return new BigUint64Array(new ArrayBuffer(8))
}

function bindApi(table: unknown): Api {
  const entries = koffi.decode(table, koffi.array(pointer, 256)) as Handle[]
  const entry = (index: number, result: string, args: readonly string[]) =>
    koffi.decode(entries[index], koffi.proto(result, [...args])) as KoffiFunc<(...args: unknown[]) => unknown>

  const errorMessage = entry(2, 'str', [pointer])
  const release = mapValues(releases, (index) => entry(index, 'void', [pointer]))
  const calls = mapValues(functions, ([index, args]) => entry(index, pointer, args))

  const check = (name: FunctionName, status: unknown): void => {
    if (!status) return
    const message = errorMessage(status) as string
    release.status(status as Handle)
    throw new ServingError('internal', `ONNX Runtime failed in ${name}: ${message}`)
  }
  const call = (name: FunctionName, ...args: unknown[]): void => check(name, calls[name](...args))
  const callAsync = async (name: FunctionName, ...args: unknown[]): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    calls[name].async(...args, (error: unknown, status: unknown) => (error ? reject(error) : resolve(status)))
    check(name, await promise)
  }
  return {
    call,
    callAsync,
    create(name, ...args) {
      const place = handlePlace()
      call(name, ...args, place)
      return place[0] as Handle
    },
    async createAsync(name, ...args) {
      const place = handlePlace()
      await callAsync(name, ...args, place)
      return place[0] as Handle
    },
    release,
  }
}

function sessionOptions(api: Api, options: SessionOptions): Handle {
  const handle = api.create('createSessionOptions')
  try {
    api.call('setIntraOpThreads', handle, options.threads)
    for (const [key, value] of Object.entries(options.config ?? {})) api.call('addConfigEntry', handle, key, value)
    if (options.profilePrefix) api.call('enableProfiling', handle, options.profilePrefix)
    if (options.cuda !== undefined) appendCuda(api, handle, options.cuda)
    for (const path of options.operatorLibraries ?? []) api.call('registerOperators', handle, path)
    return handle
  } catch (error) {
    api.release.sessionOptions(handle)
    throw error
  }
}

function appendCuda(api: Api, settings: Handle, options: Readonly<Record<string, string>>): void {
  const handle = api.create('createCudaOptions')
  try {
    const keys = Object.keys(options)
    api.call('updateCudaOptions', handle, keys, Object.values(options), keys.length)
    api.call('appendCuda', settings, handle)
  } finally {
    api.release.cudaOptions(handle)
  }
}

/**
 * Whether ONNX Runtime takes a library of operators, without making a session.
 * @throws ServingError `internal` with what it says against it
 */
export function checkOperatorLibrary(path: string): void {
  const { api } = loadApi()
  const env = api.create('createEnv', LOG_ERROR, 'quiver')
  try {
    api.release.sessionOptions(sessionOptions(api, { threads: 1, operatorLibraries: [path] }))
  } finally {
    api.release.env(env)
  }
}

function createBinding(api: Api, session: Handle): Binding {
  const binding = api.create('createBinding', session)
  return {
    bindInput: (name, tensor) => api.call('bindInput', binding, name, tensor.handle),
    bindOutput: (name, tensor) => api.call('bindOutput', binding, name, tensor.handle),
    run: () => api.callAsync('runWithBinding', session, null, binding),
    close: () => api.release.binding(binding),
  }
}

/** Another library than onnxruntime-node's, and a device whose memory tensors may wrap. */
export interface RuntimeOptions {
  readonly library?: string
  /** Loaded before it and kept: what it looks for by name alone. */
  readonly companions?: readonly string[]
  /** What ONNX Runtime calls the device's memory. */
  readonly deviceMemory?: 'Cuda' | 'Cpu'
}

/** OrtDeviceAllocator, device 0, OrtMemTypeDefault. */
const DEVICE_MEMORY = [0, 0, 0] as const

/**
 * Loads ONNX Runtime.
 * @throws ServingError `source_unavailable` when the library is missing or of an unsupported version
 * @example const runtime = loadOnnxRuntime(); const session = await runtime.createSession('model.onnx', { threads: 2 })
 */
export function loadOnnxRuntime({ library: path, companions = [], deviceMemory }: RuntimeOptions = {}): OnnxRuntime {
  const loaded = companions.map(loadNativeLibrary)
  const { api, version, library } = loadApi(path)
  const env = api.create('createEnv', LOG_ERROR, 'quiver')
  const memoryInfo = api.create('createCpuMemoryInfo', 0, 0)
  const deviceInfo = deviceMemory === undefined ? undefined : api.create('createMemoryInfo', deviceMemory, ...DEVICE_MEMORY)
  return {
    version,
    libraries: [...loaded, library],
    tensor(type, shape, data) {
      const dims = BigInt64Array.from(shape, BigInt)
      if ('address' in data) {
        const { address, byteLength } = data
        const handle = api.create('createTensor', deviceInfo, address, byteLength, dims, shape.length, elementType[type])
        return { handle, release: () => api.release.value(handle) }
      }
      // V8 keeps small typed arrays inside its own heap, where they move; asking for the buffer puts them outside.
      const memory = data.buffer
      const handle = api.create('createTensor', memoryInfo, data, data.byteLength, dims, shape.length, elementType[type])
      return { handle, memory, release: () => api.release.value(handle) }
    },
    async createSession(modelPath, options) {
      const settings = sessionOptions(api, options)
      try {
        const session = await api.createAsync('createSession', env, modelPath, settings)
        return { createBinding: () => createBinding(api, session), close: () => api.release.session(session) }
      } finally {
        api.release.sessionOptions(settings)
      }
    },
    close() {
      api.release.memoryInfo(memoryInfo)
      if (deviceInfo !== undefined) api.release.memoryInfo(deviceInfo)
      api.release.env(env)
    },
  }
}
