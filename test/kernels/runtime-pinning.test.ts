/**
 * The operators' library keeps the ONNX Runtime that it was registered with (kernels/operator/library.cc): a domain and a table of functions
 * of that runtime outlive every session, so that it must not be unmapped, nor be taken for another one.
 */
import { copyFile, readdir, readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import path from 'node:path'
import koffi from 'koffi'
import { expect, onTestFinished, test } from 'vitest'
import { loadNativeLibrary } from '../../packages/worker/src/engine/onnx/native-library.ts'
import { builtOperator, NEEDS_COMPILER } from '../support/operator-under-test.ts'
import { temporaryFolder } from '../support/temporary-folder.ts'

/** Entries of OrtApi, as ort.ts has them. */
const entries = {
  errorMessage: 2,
  createSessionOptions: 10,
  releaseStatus: 93,
  releaseOptions: 100,
  registerOperators: 228,
} as const

/** A copy of onnxruntime-node's library: to the loader, another library. */
async function runtimeCopy(name: string): Promise<string> {
  const root = path.dirname(createRequire(path.resolve('packages/worker/package.json')).resolve('onnxruntime-node/package.json'))
  const folder = path.join(root, 'bin/napi-v6', process.platform, process.arch)
  const library = (await readdir(folder)).find((file) => /^libonnxruntime\.so/.test(file)) ?? ''
  const copy = path.join(await temporaryFolder(), name)
  await copyFile(path.join(folder, library), copy)
  return copy
}

/** Loads a runtime, registers the operators with it, and lets go of it. @returns what the runtime says against them, or undefined */
function register(runtime: string, operators: string): string | undefined {
  const library = loadNativeLibrary(runtime)
  onTestFinished(() => library.unload())
  const base = library.func('OrtGetApiBase', 'void *', [])()
  const [getApi] = koffi.decode(base, koffi.array('void *', 2)) as [bigint]
  const table = koffi.decode(
    koffi.decode(getApi, koffi.proto('void *', ['uint32_t']))(20),
    koffi.array('void *', 256),
  ) as bigint[]
  const entry = (name: keyof typeof entries, result: string, args: string[]) =>
    koffi.decode(table[entries[name]], koffi.proto(result, args))
  const place = new BigUint64Array(new ArrayBuffer(8))
  entry('createSessionOptions', 'void *', ['void *'])(place)
  try {
    const status: unknown = entry('registerOperators', 'void *', ['void *', 'str'])(place[0], operators)
    if (!status) return undefined
    const said = String(entry('errorMessage', 'str', ['void *'])(status))
    entry('releaseStatus', 'void', ['void *'])(status)
    return said
  } finally {
    entry('releaseOptions', 'void', ['void *'])(place[0])
  }
}

const isMapped = async (file: string): Promise<boolean> => (await readFile('/proc/self/maps', 'utf8')).includes(file)

const built = process.platform === 'linux' ? await builtOperator() : undefined

test.skipIf(built === undefined)(
  `a runtime stays mapped after whoever loaded it lets go of it, and another one is refused the same operators${built === undefined ? `: ${NEEDS_COMPILER}` : ''}`,
  async () => {
    // A copy, so that other tests' registrations of this very library in the process do not count.
    const operators = path.join(await temporaryFolder(), 'operators.so')
    await copyFile(built ?? '', operators)
    // Without a session it is the only one that keeps the operators.
    const held = loadNativeLibrary(operators)
    onTestFinished(() => held.unload())
    const first = await runtimeCopy('first.so')
    const library = loadNativeLibrary(first)
    expect(register(first, operators)).toBeUndefined()
    library.unload()
    const second = await runtimeCopy('second.so')
    expect(register(second, operators)).toBe("Quiver's operators are in use by another ONNX Runtime of this process")
    expect(register(first, operators)).toBeUndefined()
    expect(await isMapped(first)).toBe(true)
  },
)
