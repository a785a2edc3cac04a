/**
 * What a GPU needs to be used, each part with what helps where it is missing: a driver that answers, ONNX Runtime's CUDA provider of the
 * same version, NVIDIA's libraries, and our own kernels.
 */
import path from 'node:path'
import { type DeviceChoice, type Dtype, type Logger, type LoraMode, ServingError } from '@quiver/protocol'
import { openCudaDevice } from '../engine/onnx/device/cuda-device.ts'
import type { DeviceBackend } from '../engine/onnx/device/device.ts'
import { isInstalled, neededPackages, packageFolder } from './cuda-install.ts'
import { libraryPackages, ORT_VERSION, providerPackage } from './cuda-packages.ts'

export interface DeviceSearch {
  readonly choice: DeviceChoice
  readonly dtype: Dtype
  readonly lora: LoraMode
  /** Where `quiver cuda install` puts its packages. */
  readonly cudaDir: string
  /** Where `npm run build:cuda` puts the kernels. */
  readonly kernelsLibrary: string
}

export interface DeviceSearchDeps {
  readonly log: Logger
  /** Asks the driver. @returns why no GPU can be used, or undefined */
  missingGpu(): string | undefined
  /** Whether the system's loader finds a library, by name or path. */
  hasLibrary(nameOrPath: string): boolean
  /** Version of the ONNX Runtime that onnxruntime-node has. */
  readonly runtimeVersion: string
}

/** Where the model is computed, and what in. */
export interface FoundDevice {
  readonly dtype: Dtype
  /** Absent: this machine's processor. */
  readonly backend?: DeviceBackend
  /** Path of the library with our kernels, for a backend. */
  readonly operator?: { readonly path: string; readonly name: string }
}

interface MissingPart {
  readonly what: string
  readonly help: string
}

const INSTALL = 'run `quiver cuda install`'

/**
 * @throws ServingError `invalid_request` when a GPU is insisted on and cannot be had, with every part that is missing and what helps, or
 * when the dtype is not one that the device computes in
 */
export async function findDevice(search: DeviceSearch, deps: DeviceSearchDeps): Promise<FoundDevice> {
  const { choice } = search
  if (choice === 'cpu') return onCpu(search)
  const unfit = unfitFor(search)
  if (unfit !== undefined) {
    if (choice === 'cuda') throw new ServingError('invalid_request', `--device cuda ${unfit}`)
    return onCpu(search)
  }
  const missing = await missingParts(search, deps)
  if (missing.length > 0) {
    const parts = missing.map(({ what, help }) => `${what} (${help})`).join('; ')
    if (choice === 'cuda') {
      throw new ServingError('invalid_request', `--device cuda cannot be used: ${parts}; or start with --device cpu`)
    }
    // Without a GPU nothing is missed; with one, something can be done.
    deps.log(deps.missingGpu() === undefined ? 'warn' : 'info', `the model is computed on the CPU: ${parts}`)
    return onCpu(search)
  }
  const dtype = search.dtype === 'bf16' ? 'bf16' : 'fp16'
  return {
    dtype,
    backend: cudaBackend(search, deps),
    operator: { path: search.kernelsLibrary, name: 'cuda' },
  }
}

function onCpu({ dtype, choice }: DeviceSearch): FoundDevice {
  if (dtype !== 'fp16' && dtype !== 'bf16') return { dtype }
  const why = choice === 'cpu' ? '' : ', and none can be used here'
  throw new ServingError('invalid_request', `--dtype ${dtype} is computed on a GPU only${why}: use int8, int4 or fp32`)
}

/** Why a GPU would not compute what is wanted; int8 is the default, and there stands for float16. */
function unfitFor({ dtype, lora }: DeviceSearch): string | undefined {
  if (dtype === 'int4' || dtype === 'fp32') return `computes in fp16 or bf16, not in ${dtype}: use one of them, or --device cpu`
  if (lora === 'standard') return 'applies adapters by our own kernels only: leave --lora out, or use --device cpu'
  return undefined
}

async function missingParts(search: DeviceSearch, deps: DeviceSearchDeps): Promise<MissingPart[]> {
  const missing: MissingPart[] = []
  const gpu = deps.missingGpu()
  if (gpu !== undefined) missing.push({ what: gpu, help: 'a driver of the 580 series or later is needed' })
  if (deps.runtimeVersion !== ORT_VERSION) {
    const what = `the CUDA provider is for ONNX Runtime ${ORT_VERSION}, and ${deps.runtimeVersion} is installed`
    missing.push({ what, help: 'run `npm ci`' })
  } else if (!(await isInstalled(search.cudaDir, providerPackage))) {
    missing.push({ what: `ONNX Runtime's CUDA provider ${ORT_VERSION} is not installed`, help: INSTALL })
  }
  for (const one of neededPackages(deps.hasLibrary)) {
    if (one === providerPackage || (await isInstalled(search.cudaDir, one))) continue
    missing.push({ what: `NVIDIA's libraries are not installed, such as ${one.requirement}`, help: INSTALL })
    break
  }
  if (!deps.hasLibrary(search.kernelsLibrary)) {
    missing.push({ what: 'the kernels are not compiled', help: 'run `npm run build:cuda`' })
  }
  return missing
}

function cudaBackend({ cudaDir, kernelsLibrary }: DeviceSearch, deps: DeviceSearchDeps): DeviceBackend {
  const needed = neededPackages(deps.hasLibrary)
  const filesOf = (one: (typeof needed)[number]) =>
    one.files.map(({ entry }) => path.join(packageFolder(cudaDir, one), path.posix.basename(entry)))
  const [library] = filesOf(providerPackage)
  return {
    name: 'cuda',
    runtime: {
      ...(library !== undefined && { library }),
      // Loaded by their paths, they are what is found when the provider asks for them by name.
      companions: libraryPackages.filter((one) => needed.includes(one)).flatMap((one) => filesOf(one).filter(isLoadedFirst)),
    },
    memoryName: 'Cuda',
    provider: ({ stream }) => ({
      device_id: '0',
      user_compute_stream: String(stream),
      // By default the arena doubles, and takes what the slots and the cache were counted on.
      arena_extend_strategy: 'kSameAsRequested',
    }),
    open: () => openCudaDevice(kernelsLibrary),
  }
}

/** cuDNN and NVRTC find their own other parts, beside themselves. */
function isLoadedFirst(file: string): boolean {
  return /lib(?:cudart|cublasLt|cublas|curand|nvrtc|cudnn)\.so/.test(path.basename(file))
}
