import koffi, { type LibraryHandle } from 'koffi'

/** Stack of the threads that koffi calls from: its default of 128 KiB is too small for ONNX Runtime, which crashes. */
const THREAD_STACK_BYTES = 8 * 1024 * 1024

/**
 * Loads a shared library. Keep the handle reachable: koffi unmaps a library whose handle is collected, and every function
 * called after that crashes.
 * @throws Error when the file is missing or is no library for this machine
 */
export function loadNativeLibrary(path: string): LibraryHandle {
  // Koffi takes settings only before it loads the first library.
  const settings = koffi.config()
  if ((settings.async_stack_size ?? 0) < THREAD_STACK_BYTES) {
    koffi.config({ ...settings, async_stack_size: THREAD_STACK_BYTES })
  }
  return koffi.load(path)
}
