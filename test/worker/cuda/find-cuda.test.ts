import { mkdir, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { packageFolder } from '../../../packages/worker/src/cuda/cuda-install.ts'
import {
  type CudaPackage,
  libraryPackages,
  ORT_VERSION,
  providerPackage,
} from '../../../packages/worker/src/cuda/cuda-packages.ts'
import { runtimeVersion } from '../../../packages/worker/src/cuda/driver.ts'
import { type DeviceSearch, type DeviceSearchDeps, findDevice } from '../../../packages/worker/src/cuda/find-cuda.ts'
import { refusal } from '../../support/refusal.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'

const kernels = '/quiver/libquiver_lora_cuda.so'

interface Machine {
  readonly gpu?: string
  readonly has?: readonly string[]
  readonly version?: string
}

async function look(part: Partial<DeviceSearch>, { gpu, has = [kernels], version = ORT_VERSION }: Machine = {}) {
  const lines: string[] = []
  const deps: DeviceSearchDeps = {
    log: (level, message) => void lines.push(`${level}: ${message}`),
    missingGpu: () => gpu,
    hasLibrary: (name) => has.includes(name),
    runtimeVersion: version,
  }
  const search: DeviceSearch = {
    choice: 'auto',
    dtype: 'int8',
    lora: 'auto',
    cudaDir: await temporaryFolder(),
    kernelsLibrary: kernels,
    ...part,
  }
  return { lines, search, found: findDevice(search, deps) }
}

/** As large as the real ones, and empty: nothing of a file that was never written is on disk. */
async function install(cudaDir: string, packages: readonly CudaPackage[]): Promise<void> {
  for (const one of packages) {
    await mkdir(packageFolder(cudaDir, one), { recursive: true })
    for (const { entry, bytes } of one.files) {
      const file = path.join(packageFolder(cudaDir, one), path.posix.basename(entry))
      await writeFile(file, '')
      await truncate(file, bytes)
    }
  }
}

test('the provider is pinned to the version of ONNX Runtime that is installed', () => {
  expect(runtimeVersion()).toBe(ORT_VERSION)
  expect(providerPackage.requirement).toBe(`onnxruntime-gpu==${ORT_VERSION}`)
})

describe('device auto', () => {
  test('takes the CPU where there is no GPU, with one line that says so', async () => {
    const { found, lines } = await look({}, { gpu: 'no NVIDIA driver is installed here', has: [] })
    expect(await found).toEqual({ dtype: 'int8' })
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatch(/^info: the model is computed on the CPU: no NVIDIA driver is installed here \(.+580/)
  })

  test('warns in one line where a GPU is there and its parts are not', async () => {
    const { found, lines } = await look({}, { has: [] })
    expect(await found).toEqual({ dtype: 'int8' })
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatch(
      /^warn: .+CUDA provider 1\.30\.0 is not installed \(run `quiver cuda install`\).+NVIDIA's libraries.+`npm run build:cuda`/,
    )
  })

  test('leaves what a GPU does not compute to the CPU', async () => {
    const { found, lines } = await look({ dtype: 'int4' })
    expect(await found).toEqual({ dtype: 'int4' })
    expect(lines).toEqual([])
  })

  test.each([
    ['int8', 'fp16'],
    ['fp16', 'fp16'],
    ['bf16', 'bf16'],
  ] as const)('takes the GPU where all parts are there: %s is computed in %s', async (given, computed) => {
    const cudaDir = await temporaryFolder()
    await install(cudaDir, [providerPackage, ...libraryPackages])
    const { found, lines } = await look({ dtype: given, cudaDir })
    const { dtype, backend, operator } = await found
    expect({ dtype, operator }).toEqual({ dtype: computed, operator: { path: kernels, name: 'cuda' } })
    expect(backend).toMatchObject({ name: 'cuda', memoryName: 'Cuda' })
    expect(backend?.runtime.library).toMatch(/\/libonnxruntime\.so\.1\.30\.0$/)
    expect(backend?.runtime.companions.map((file) => path.basename(file))).toEqual([
      'libcudart.so.13',
      'libcublasLt.so.13',
      'libcublas.so.13',
      'libcurand.so.10',
      'libnvrtc.so.13',
      'libcudnn.so.9',
    ])
    expect(lines).toEqual([])
  })

  test("uses the system's own libraries of CUDA where it has them", async () => {
    const cudaDir = await temporaryFolder()
    await install(cudaDir, [providerPackage])
    const system = libraryPackages.flatMap(({ files }) => files.map(({ entry }) => path.basename(entry)))
    const { found } = await look({ cudaDir }, { has: [kernels, ...system] })
    expect((await found).backend?.runtime.companions).toEqual([])
  })
})

describe('device cuda', () => {
  test('W07 without its parts is refused, each named with what helps', async () => {
    const { found } = await look({ choice: 'cuda' }, { gpu: 'no NVIDIA driver is installed here', has: [] })
    const { code, message } = await refusal(() => found)
    expect(code).toBe('invalid_request')
    for (const part of ['no NVIDIA driver', '`quiver cuda install`', '`npm run build:cuda`', '--device cpu'])
      expect(message).toContain(part)
  })

  test('W07 with another ONNX Runtime than the provider is for is refused', async () => {
    const { found } = await look({ choice: 'cuda' }, { version: '1.31.0' })
    expect((await refusal(() => found)).message).toContain('for ONNX Runtime 1.30.0, and 1.31.0 is installed')
  })

  test('refuses types and ways that it does not compute', async () => {
    const fp32 = await look({ choice: 'cuda', dtype: 'fp32' })
    expect((await refusal(() => fp32.found)).message).toBe(
      '--device cuda computes in fp16 or bf16, not in fp32: use one of them, or --device cpu',
    )
    const standard = await look({ choice: 'cuda', lora: 'standard' })
    expect((await refusal(() => standard.found)).message).toContain('leave --lora out')
  })
})

test('the CPU refuses the types of a GPU by name', async () => {
  const asked = await look({ choice: 'cpu', dtype: 'fp16' })
  expect((await refusal(() => asked.found)).message).toBe('--dtype fp16 is computed on a GPU only: use int8, int4 or fp32')
})
