/**
 * What an error of CUDA means for the process. The numbers are those of cudaError_t (CUDA 13, driver_types.h), which never change.
 *
 *   full       there was no memory for it: who wanted it is refused, everything else goes on
 *   lost       the context is lost: every later call fails, so the process must end and start clean
 *   missing    no driver, or none that is new enough
 *   busy       somebody else has the GPU, or it is being reset
 *   mistake    a wrong call: a fault of ours
 */
import { assertNever, ServingError } from '@quiver/protocol'
import { EngineBroken } from '../../engine-broken.ts'

export type DeviceFault = 'full' | 'lost' | 'missing' | 'busy' | 'mistake'

const faults: ReadonlyMap<number, DeviceFault> = new Map([
  [1, 'mistake'], // invalid value
  [2, 'full'], // memory allocation
  [3, 'missing'], // initialization
  [4, 'lost'], // the runtime is unloading
  [9, 'mistake'], // invalid configuration
  [35, 'missing'], // insufficient driver
  [46, 'busy'], // devices unavailable
  [98, 'mistake'], // invalid device function
  [100, 'missing'], // no device
  [101, 'mistake'], // invalid device
  [200, 'mistake'], // invalid kernel image
  [201, 'lost'], // device uninitialized: the context is gone
  [209, 'mistake'], // no kernel image for this device
  [214, 'lost'], // ECC error that cannot be corrected
  [219, 'lost'], // NVLink error that cannot be corrected
  [220, 'lost'], // the compiler of PTX failed
  [304, 'missing'], // operating system call
  [400, 'mistake'], // invalid handle
  [700, 'lost'], // illegal address
  [701, 'mistake'], // launch out of resources
  [702, 'lost'], // launch timeout
  [709, 'lost'], // context destroyed
  [710, 'lost'], // assert
  [714, 'lost'], // hardware stack error
  [715, 'lost'], // illegal instruction
  [716, 'lost'], // misaligned address
  [717, 'lost'], // invalid address space
  [718, 'lost'], // invalid program counter
  [719, 'lost'], // launch failure
  [720, 'lost'], // cooperative launch too large for what was left behind
  [802, 'busy'], // system not ready
  [803, 'missing'], // driver and library do not match
  [804, 'missing'], // compatibility mode is not supported on this device
  [805, 'busy'], // MPS connection failed
  [807, 'busy'], // MPS server not ready
  [808, 'busy'], // MPS: too many clients
  [900, 'mistake'], // not allowed while capturing
  [901, 'mistake'], // capture invalidated
])

/** An error that is not in the table is taken for the worst, unless it is one of capturing, which nothing here does. */
export function classifyCuda(code: number): DeviceFault {
  return faults.get(code) ?? 'lost'
}

/** A failure of one of CUDA's functions. @param said the sentence that came with the code */
export function cudaFailure(code: number, said: string): ServingError {
  const fault = classifyCuda(code)
  const context = { cuda: code }
  switch (fault) {
    case 'full':
      return new ServingError('overloaded', `the GPU's memory is full: ${said}; ${LESS}`, context)
    case 'lost':
      return new EngineBroken(`the GPU's context is lost: ${said}`, context)
    case 'missing':
      return new ServingError('invalid_request', `the GPU cannot be used: ${said}; ${DRIVER}`, context)
    case 'busy':
      return new ServingError('invalid_request', `the GPU is in use or being reset: ${said}; ${FREE}`, context)
    case 'mistake':
      return new ServingError('internal', `a call to the GPU was wrong: ${said}`, context)
    default:
      return assertNever(fault)
  }
}

const LESS =
  'start with a smaller --sequences, --total-tokens, --slots or --max-rank, or free memory of the GPU (nvidia-smi shows who has it)'
const DRIVER = 'install an NVIDIA driver of the 580 series or later, or start with --device cpu'
const FREE = 'end what uses it (nvidia-smi shows what), or start with --device cpu'

/** As the CUDA execution provider writes them: `CUDA failure 700: …`, `CUDNN failure 4: …`, and those of its memory arena. */
const CUDA_FAILURE = /\bCUDA (?:failure|error)[ :]*(\d+)\b/i
const ARENA_FULL =
  /Failed to allocate memory for requested buffer|Available memory of \d+ is smaller than requested|out of memory/i
const LIBRARY_BROKEN = /\b(?:CUBLAS|CUDNN|CUFFT|CURAND)(?:_STATUS_\w+)? failure/i
const LIBRARY_FULL = /ALLOC_FAILED|OUT_OF_HOST_MEMORY/i

/**
 * What a failed run of the graph on the device was: the runtime's text holds the number of the error, if it was one of CUDA.
 * @returns the error as it is where the text speaks of nothing that belongs to the device
 */
export function runFailure(thrown: unknown): unknown {
  if (!(thrown instanceof ServingError) || thrown.code !== 'internal' || thrown instanceof EngineBroken) return thrown
  const { message } = thrown
  const code = CUDA_FAILURE.exec(message)?.[1]
  if (code !== undefined) return cudaFailure(Number(code), message)
  if (ARENA_FULL.test(message) || (LIBRARY_BROKEN.test(message) && LIBRARY_FULL.test(message))) return cudaFailure(2, message)
  if (LIBRARY_BROKEN.test(message)) return new EngineBroken(`a library on the GPU failed: ${message}`)
  return thrown
}
