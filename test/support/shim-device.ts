import { openCudaDevice } from '../../packages/worker/src/engine/onnx/device/cuda-device.ts'
import type { Device, DeviceBackend } from '../../packages/worker/src/engine/onnx/device/device.ts'
import { loadNativeLibrary } from '../../packages/worker/src/engine/onnx/native-library.ts'
import { type OperatorLibrary, openOperator } from '../../packages/worker/src/engine/onnx/operator-library.ts'
import { shimLibrary } from './shim-builds.ts'

/** The CUDA library, all of it but for ONNX Runtime's CUDA execution provider, on the execution shim. */
export interface ShimDevice {
  readonly path: string
  readonly operator: OperatorLibrary
  /** Makes an engine whose memory is the shim's; ONNX Runtime computes on the CPU. */
  readonly backend: DeviceBackend
  open(): Device
  /** The next call of one of CUDA's functions answers this error instead of doing anything; `''` takes that back, and a lost context. */
  fail(name: string, error: number): void
}

/** All sources of libquiver_lora_cuda, as kernels/cuda/build.sh gives them to nvcc. */
const sources = [
  'kernels/cuda/device_memory.cu',
  'kernels/cuda/device.cu',
  'kernels/cuda/lora.cu',
  'kernels/cuda/lora_workspace.cc',
  'kernels/cuda/operator_library.cu',
  'kernels/operator/library.cc',
  'kernels/operator/lora_op.cc',
  'kernels/operator/tensor_view.cc',
] as const

export async function shimDevice(): Promise<ShimDevice> {
  const path = await shimLibrary(...sources)
  const handle = loadNativeLibrary(path)
  const open = () => openCudaDevice(path)
  return {
    path,
    operator: openOperator(path),
    backend: { name: 'cuda-on-shim', runtime: { companions: [] }, memoryName: 'Cpu', open },
    open,
    fail: (name, error) => void handle.func('emulator_fail', 'void', ['str', 'int'])(name, error),
  }
}
