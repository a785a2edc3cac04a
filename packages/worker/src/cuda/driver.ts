import { createRequire } from 'node:module'
import { loadNativeLibrary } from '../engine/onnx/native-library.ts'

/** Asked of the driver itself, so that nothing is fetched for nothing. @returns why no GPU can be used, or undefined */
export function missingGpu(): string | undefined {
  try {
    const driver = loadNativeLibrary(process.platform === 'win32' ? 'nvcuda.dll' : 'libcuda.so.1')
    const started: unknown = driver.func('int cuInit(unsigned int flags)')(0)
    if (started !== 0) return `no GPU can be used here (cuInit answers ${started})`
    const count = [0]
    const counted: unknown = driver.func('int cuDeviceGetCount(_Out_ int *count)')(count)
    return counted === 0 && (count[0] ?? 0) > 0 ? undefined : 'the NVIDIA driver here knows no GPU'
  } catch {
    return 'no NVIDIA driver is installed here'
  }
}

/** Whether the system's loader finds a library, by name or path. */
export function hasLibrary(nameOrPath: string): boolean {
  try {
    loadNativeLibrary(nameOrPath).unload()
    return true
  } catch {
    return false
  }
}

/** Version of the ONNX Runtime that onnxruntime-node has. */
export function runtimeVersion(): string {
  const manifest: unknown = createRequire(import.meta.url)('onnxruntime-node/package.json')
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : 'unknown'
}
