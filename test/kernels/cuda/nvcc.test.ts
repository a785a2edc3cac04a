/** What nvcc makes of the CUDA sources, looked at on a machine that need not have a GPU. */
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import koffi from 'koffi'
import { beforeAll, describe, expect, test } from 'vitest'
import { pythonWith } from '../../support/python-venv.ts'
import { readProjectText, repositoryRoot } from '../../support/repository.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'

const run = promisify(execFile)
const script = path.join(repositoryRoot, 'kernels/cuda/build.sh')
const architectures = ['sm_80', 'sm_89', 'sm_90']
const kernels = ['lora_decode_shrink', 'lora_decode_expand', 'lora_prefill_shrink', 'lora_prefill_expand']
const types = ['half', 'bfloat16']

/** `npm run build:cuda`; its own sentence is the failure where nvcc is missing and cannot be installed. */
async function buildCuda(environment: NodeJS.ProcessEnv = process.env): Promise<string> {
  const { stdout } = await run(script, [], { env: environment, timeout: 400_000, maxBuffer: 64 << 20 })
  return stdout.trim()
}

let library = ''
beforeAll(async () => {
  library = await buildCuda()
}, 420_000)

describe('the assembler', () => {
  /** "kernel<type> sm_NN" → what ptxas says of it. */
  const told = new Map<string, string>()
  beforeAll(async () => {
    const log = await readFile(path.join(path.dirname(library), 'ptxas.log'), 'utf8')
    for (const part of log.split(/(?=Compiling entry function)/)) {
      const [, symbol = '', architecture] = /Compiling entry function '(\S+)' for '(\w+)'/.exec(part) ?? []
      if (architecture !== undefined) told.set(`${kernelOf(symbol)} ${architecture}`, part)
    }
  })
  const all = ['lora_plan', ...kernels.flatMap((kernel) => types.map((type) => `${kernel}<${type}>`))]

  test.each(all.flatMap((kernel) => architectures.map((one) => `${kernel} ${one}`)))('keeps %s in registers', (name) => {
    expect(told.get(name)).toMatch(/\b0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads/)
  })

  test('was asked for no other kernel', () => {
    expect(new Set(told.keys())).toEqual(new Set(all.flatMap((kernel) => architectures.map((one) => `${kernel} ${one}`))))
  })
})

describe('the machine code', () => {
  /** "kernel<type> sm_NN" → its instructions. */
  const code = new Map<string, string>()
  let contents = ''
  beforeAll(async () => {
    const python = await pythonWith('test/kernels/requirements.txt')
    const purelib = (await run(python, ['-c', 'import sysconfig; print(sysconfig.get_paths()["purelib"])'])).stdout.trim()
    const tools = path.join(purelib, 'nvidia/cu13/bin')
    const env = { ...process.env, PATH: `${tools}:${process.env['PATH'] ?? ''}` }
    const list = async (...words: readonly string[]) =>
      (await run(path.join(tools, 'cuobjdump'), [...words, library], { env, maxBuffer: 256 << 20, timeout: 200_000 })).stdout
    contents = `${await list('-lelf')}${await list('-lptx')}`
    for (const elf of (await list('-sass')).split(/(?=arch = sm_)/)) {
      const architecture = /^arch = (sm_\d+)/.exec(elf)?.[1] ?? ''
      for (const part of elf.split(/(?=Function : )/)) {
        const symbol = /^Function : (\S+)/.exec(part)?.[1]
        if (symbol !== undefined) code.set(`${kernelOf(symbol)} ${architecture}`, part)
      }
    }
  }, 300_000)
  const each = (names: readonly string[]) =>
    names.flatMap((kernel) => types.flatMap((type) => architectures.map((one) => ({ name: `${kernel}<${type}> ${one}`, type }))))

  test('is there for each architecture, with PTX for later ones', () => {
    for (const architecture of architectures) expect(contents).toMatch(new RegExp(`ELF file .*\\.${architecture}\\.cubin`))
    expect(contents).toMatch(/PTX file .*\.sm_90\.ptx/)
  })

  test.each(each(['lora_prefill_shrink', 'lora_prefill_expand']))(
    'of $name multiplies on tensor cores and copies asynchronously',
    ({ name, type }) => {
      const instructions = code.get(name)
      expect(instructions).toMatch(type === 'half' ? /HMMA\.16816\.F32 / : /HMMA\.16816\.F32\.BF16/)
      expect(instructions).toMatch(/LDGSTS\.E\.BYPASS\.128/)
      expect(instructions).toMatch(/LDSM\.16\.M(?:T)?88\.4/)
    },
  )

  test.each(each(['lora_decode_shrink', 'lora_decode_expand']))('of $name reads 16 bytes at a time', ({ name }) => {
    expect(code.get(name)).toMatch(/LDG\.E\.128\.CONSTANT/)
  })
})

test('the checks of the kernels compile for a GPU as they are, and say so where there is none', async () => {
  const nvcc = (await run(script, ['nvcc'])).stdout.trim()
  const program = path.join(await temporaryFolder(), 'lora-check')
  const sources = ['test/kernels/cuda/lora-check.cu', 'kernels/cuda/lora.cu']
  const flags = ['-std=c++17', '-O0', '-arch=sm_80', '-Ikernels', '-cudart', 'static']
  await run(nvcc, [...flags, '-o', program, ...sources], { cwd: repositoryRoot, timeout: 200_000 })
  const answer = await run(program, ['plan']).then(
    ({ stdout }) => stdout,
    (error: { code?: unknown; stderr?: string }) => `${error.code} ${error.stderr}`,
  )
  expect(answer).toMatch(/^(?:right|3 lora-check: no GPU can be used here \(.+\))\n$/)
}, 240_000)

describe('the library', () => {
  test('loads without a driver, and says in a sentence what is missing', () => {
    const describeDevice = koffi.load(library).func('int quiver_cuda_describe(_Out_ char *text, size_t capacity)')
    const text = Buffer.alloc(256)
    const answer: unknown = describeDevice(text, text.length)
    const sentence = text.subarray(0, text.indexOf(0)).toString()
    expect(sentence).toMatch(
      answer === 0
        ? /^\d+ GPUs?, the first of compute capability \d+\.\d$/
        : /^no (?:NVIDIA driver is installed|GPU can be used) here \(.+, CUDA error \d+\)$/,
    )
    expect([0, 2]).toContain(answer)
  })

  test('needs nothing but the C and C++ runtimes', async () => {
    const { stdout } = await run('readelf', ['-d', library])
    const needed = Array.from(stdout.matchAll(/NEEDED.*\[(.+?)\]/g), ([, name = '']) => name.replace(/\.so.*/, ''))
    const allowed = [
      'libc',
      'libm',
      'libdl',
      'librt',
      'libpthread',
      'libstdc++',
      'libgcc_s',
      'ld-linux-x86-64',
      'ld-linux-aarch64',
    ]
    expect(needed.filter((name) => !allowed.includes(name))).toEqual([])
  })

  test('exports what its headers declare and what an operator library has, and nothing of the CUDA runtime', async () => {
    const { stdout } = await run('nm', ['-D', '--defined-only', library])
    const names = Array.from(stdout.matchAll(/ T (\w+)/g), ([, name]) => name)
    const declared = ['lora.h', 'device_memory.h'].flatMap((header) =>
      Array.from(readProjectText(`kernels/cuda/${header}`).matchAll(/\b(quiver_\w+)\(/g), ([, name]) => name),
    )
    expect(declared).toContain('quiver_lora_apply')
    expect(names.filter((name) => !name?.startsWith('_')).toSorted()).toEqual(
      [...new Set(declared), 'QuiverOpsInterface', 'QuiverOpsName', 'RegisterCustomOps'].toSorted(),
    )
  })
})

describe('a machine that lacks something', () => {
  /** A PATH with the usual tools but without some. */
  const pathWithout = async (...missing: readonly string[]) => {
    const folder = await temporaryFolder()
    const names =
      'bash cat chmod cut dirname env flock g++ grep ls mkdir mktemp mv python3 readlink rm sed sha256sum tail touch uname ln'
    for (const name of names.split(' ').filter((one) => !missing.includes(one))) {
      const where = name === 'python3' ? `python3 -c 'import sys; print(sys.executable)'` : `command -v ${name}`
      const { stdout } = await run('sh', ['-c', where])
      // Not a link: Python looks for its library beside the name that it is called by.
      await writeFile(path.join(folder, name), `#!/bin/sh\nexec '${stdout.trim()}' "$@"\n`, { mode: 0o755 })
    }
    return { PATH: folder, QUIVER_CUDA_FOLDER: path.join(folder, 'cuda') }
  }

  test('is told of the C++ compiler', async () => {
    await expect(buildCuda(await pathWithout('g++'))).rejects.toThrow(
      'build:cuda: nvcc needs a C++ compiler beside it, and neither g++ nor clang++ is installed',
    )
  })

  test('is told of Python', async () => {
    await expect(buildCuda(await pathWithout('python3'))).rejects.toThrow(
      'build:cuda: there is no CUDA toolkit 13 here (CUDA_HOME, nvcc on PATH), and no python3 to install its compiler with',
    )
  })

  test('is told why pip cannot install the compiler', async () => {
    await expect(buildCuda({ ...(await pathWithout()), PIP_NO_INDEX: '1' })).rejects.toThrow(
      /build:cuda: there is no CUDA toolkit 13 here \(CUDA_HOME, nvcc on PATH\), and pip cannot install its compiler: .*nvidia-cuda-nvcc/,
    )
  })
})

function kernelOf(symbol: string): string {
  const name = /\d(lora_\w+?)(?:I|E|N)/.exec(symbol)?.[1] ?? symbol
  const type = symbol.includes('__nv_bfloat16') ? '<bfloat16>' : symbol.includes('__half') ? '<half>' : ''
  return `${name}${type}`
}
