import { loadNativeLibrary } from '../../packages/worker/src/engine/onnx/native-library.ts'
import { type OperatorLibrary, openOperator } from '../../packages/worker/src/engine/onnx/operator-library.ts'
import { shimLibrary } from './shim-builds.ts'

export interface EmulatedOperator {
  readonly library: OperatorLibrary
  /** Calls of the operator that launched kernels so far, in this process. */
  runCalls(): number
  /** Calls whose y the runtime did not let be computed in place. */
  copiedCalls(): number
}

/** quiver::Lora whose kernels are the CUDA sources, run by the execution shim on this CPU (kernels/emulated). */
export async function emulatedOperator(): Promise<EmulatedOperator> {
  const path = await shimLibrary(
    'kernels/emulated/emulated_library.cc',
    'kernels/operator/library.cc',
    'kernels/operator/lora_op.cc',
    'kernels/operator/attention_op.cc',
    'kernels/host/attention_plan.cc',
    'kernels/operator/product_op.cc',
    'kernels/host/product_plan.cc',
    'kernels/operator/rows_op.cc',
    'kernels/host/rows_plan.cc',
    'kernels/host/product_scalar.cc',
    'kernels/host/product_avx2.cc',
    'kernels/host/avx2.cc',
    'kernels/host/avx512.cc',
    'kernels/host/neon.cc',
    'kernels/host/scalar.cc',
    'kernels/operator/tensor_view.cc',
    'kernels/cuda/lora.cu',
  )
  const handle = loadNativeLibrary(path)
  // Looked up at each call, which keeps the handle reachable.
  const counter = (name: string) => () => Number(handle.func(name, 'int64_t', [])())
  return {
    library: openOperator(path),
    runCalls: counter('QuiverOpsRunCalls'),
    copiedCalls: counter('QuiverOpsCopiedCalls'),
  }
}
