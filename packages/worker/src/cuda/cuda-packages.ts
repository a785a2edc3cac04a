/**
 * What ONNX Runtime's CUDA provider consists of, pinned: the wheels that a package index has it in, and which libraries of each are
 * needed. The provider's wheel is that of one version of Python, whichever is installed: the libraries in it are the same for all.
 * Seen by `readelf`: libonnxruntime_providers_cuda.so needs libcublasLt.so.13, libcublas.so.13, libcurand.so.10, libcudart.so.13 and the
 * driver's libcuda.so.1; it opens cuDNN and NVRTC when it wants them. CUDA 13.0 is what drivers of the 580 series speak.
 */

export interface CudaPackage {
  /** As pip is asked for it. */
  readonly requirement: string
  readonly wheelName: string
  readonly wheelBytes: number
  readonly wheelSha256: string
  /** In the order in which they are loaded. */
  readonly files: readonly { readonly entry: string; readonly bytes: number }[]
}

/** The version of ONNX Runtime that onnxruntime-node has as well. */
export const ORT_VERSION = '1.30.0'

/** Interpreter and platforms that the wheels are for, whatever pip itself runs on. */
export const wheelTarget = {
  platform: 'linux',
  arch: 'x64',
  pip: [
    ...['--python-version=3.11', '--implementation=cp', '--abi=cp311', '--abi=none'],
    ...['manylinux_2_28_x86_64', 'manylinux_2_27_x86_64', 'manylinux2014_x86_64'].map((name) => `--platform=${name}`),
  ],
} as const

export const providerPackage: CudaPackage = {
  requirement: 'onnxruntime-gpu==1.30.0',
  wheelName: 'onnxruntime_gpu-1.30.0-cp311-cp311-manylinux_2_28_x86_64.whl',
  wheelBytes: 246_658_419,
  wheelSha256: '4fbf0c5d7b5fb99266c2e8a802e3e64af68bdc383e0f3c7349b985f1087eedaa',
  files: [
    { entry: 'onnxruntime/capi/libonnxruntime.so.1.30.0', bytes: 29_062_976 },
    { entry: 'onnxruntime/capi/libonnxruntime_providers_cuda.so', bytes: 272_049_904 },
    { entry: 'onnxruntime/capi/libonnxruntime_providers_shared.so', bytes: 14_632 },
  ],
}

/** Of NVIDIA; not needed where a toolkit of CUDA 13 and cuDNN 9 are installed. */
export const libraryPackages: readonly CudaPackage[] = [
  {
    requirement: 'nvidia-cuda-runtime==13.0.96',
    wheelName: 'nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
    wheelBytes: 2_243_632,
    wheelSha256: '7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548',
    files: [{ entry: 'nvidia/cu13/lib/libcudart.so.13', bytes: 704_288 }],
  },
  {
    requirement: 'nvidia-cublas==13.0.2.14',
    wheelName: 'nvidia_cublas-13.0.2.14-py3-none-manylinux_2_27_x86_64.whl',
    wheelBytes: 420_882_912,
    wheelSha256: '0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c',
    files: [
      { entry: 'nvidia/cu13/lib/libcublasLt.so.13', bytes: 539_533_072 },
      { entry: 'nvidia/cu13/lib/libcublas.so.13', bytes: 54_440_120 },
    ],
  },
  {
    requirement: 'nvidia-curand==10.4.0.35',
    wheelName: 'nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl',
    wheelBytes: 59_544_258,
    wheelSha256: '1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc',
    files: [{ entry: 'nvidia/cu13/lib/libcurand.so.10', bytes: 132_698_328 }],
  },
  {
    requirement: 'nvidia-cuda-nvrtc==13.0.88',
    wheelName: 'nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl',
    wheelBytes: 90_215_200,
    wheelSha256: 'ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575',
    files: [
      { entry: 'nvidia/cu13/lib/libnvrtc.so.13', bytes: 109_338_064 },
      { entry: 'nvidia/cu13/lib/libnvrtc-builtins.so.13.0', bytes: 4_380_616 },
    ],
  },
  {
    requirement: 'nvidia-cudnn-cu13==9.14.0.64',
    wheelName: 'nvidia_cudnn_cu13-9.14.0.64-py3-none-manylinux_2_27_x86_64.whl',
    wheelBytes: 350_763_257,
    wheelSha256: '024ce8f7571d322991ecadbe82907df2e89b5f36597d03436413ec6dd7c9fe54',
    files: [
      { entry: 'nvidia/cudnn/lib/libcudnn.so.9', bytes: 125_144 },
      { entry: 'nvidia/cudnn/lib/libcudnn_adv.so.9', bytes: 107_070_720 },
      { entry: 'nvidia/cudnn/lib/libcudnn_cnn.so.9', bytes: 4_204_104 },
      { entry: 'nvidia/cudnn/lib/libcudnn_engines_precompiled.so.9', bytes: 234_907_992 },
      { entry: 'nvidia/cudnn/lib/libcudnn_engines_runtime_compiled.so.9', bytes: 27_290_104 },
      { entry: 'nvidia/cudnn/lib/libcudnn_graph.so.9', bytes: 4_451_872 },
      { entry: 'nvidia/cudnn/lib/libcudnn_heuristic.so.9', bytes: 56_629_648 },
      { entry: 'nvidia/cudnn/lib/libcudnn_ops.so.9', bytes: 37_758_664 },
    ],
  },
]
