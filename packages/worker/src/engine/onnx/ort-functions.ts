/** Which functions of ONNX Runtime's C API are called, by their index in OrtApi (onnxruntime_c_api.h), whose order never changes. */

/** The table's version: the oldest that has every function named here. */
export const API_VERSION = 20

export const pointer = 'void *'
/** Where a new handle is written, see handlePlace. */
const out = pointer

/** Signatures by index in OrtApi; all but the release functions answer a status. */
export const functions = {
  createEnv: [3, ['int', 'str', out]],
  createSession: [7, [pointer, 'str', pointer, out]],
  createSessionOptions: [10, [out]],
  enableProfiling: [14, [pointer, 'str']],
  setIntraOpThreads: [24, [pointer, 'int']],
  createTensor: [49, [pointer, pointer, 'size_t', 'int64_t *', 'size_t', 'int', out]],
  createMemoryInfo: [68, ['str', 'int', 'int', 'int', out]],
  createCpuMemoryInfo: [69, ['int', 'int', out]],
  addConfigEntry: [130, [pointer, 'str', 'str']],
  runWithBinding: [133, [pointer, pointer, pointer]],
  createBinding: [134, [pointer, out]],
  bindInput: [136, [pointer, 'str', pointer]],
  bindOutput: [137, [pointer, 'str', pointer]],
  appendCuda: [204, [pointer, pointer]],
  createCudaOptions: [205, [out]],
  updateCudaOptions: [206, [pointer, 'str *', 'str *', 'size_t']],
  registerOperators: [228, [pointer, 'str']],
} as const

/** Functions that end a handle's life; they answer nothing. */
export const releases = {
  env: 92,
  status: 93,
  memoryInfo: 94,
  session: 95,
  value: 96,
  sessionOptions: 100,
  binding: 135,
  cudaOptions: 208,
} as const
