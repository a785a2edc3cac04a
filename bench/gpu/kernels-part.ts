/** The share of the device's memory bandwidth that the decode kernels reach. */
import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'
import type { BenchContext } from '../bench.ts'
import { temporaryFolder } from '../shared/clean-up.ts'
import type { Figure } from '../shared/figure.ts'

const run = promisify(execFile)
const root = path.join(import.meta.dirname, '../..')
const SHAPE = { hidden: 4096, adapters: 32, rank: 16 } as const

export const loraBenchSources = ['bench/gpu/lora-bench.cu', 'kernels/cuda/lora.cu'] as const

/** What lora-bench printed of one way: milliseconds, and bytes that must move. */
export interface Timed {
  readonly ms: number
  readonly bytes: number
}

const lineSchema = z.tuple([z.enum(['decode', 'copy']), z.coerce.number().positive(), z.coerce.number().int().positive()])

/** @throws ServingError `internal` when a line is not what lora-bench writes */
export function readTimes(output: string): Record<'decode' | 'copy', Timed> {
  const lines = output
    .trim()
    .split('\n')
    .map((line) => lineSchema.safeParse(line.split(' ')))
  const found = new Map(lines.flatMap(({ data }) => (data === undefined ? [] : [[data[0], { ms: data[1], bytes: data[2] }]])))
  const [decode, copy] = [found.get('decode'), found.get('copy')]
  if (decode === undefined || copy === undefined) throw new ServingError('internal', `lora-bench wrote ${JSON.stringify(output)}`)
  return { decode, copy }
}

export function kernelFigures({ decode, copy }: Record<'decode' | 'copy', Timed>): Figure[] {
  const speed = ({ ms, bytes }: Timed) => bytes / ms / 1e6
  const group = `Decode kernels: ${SHAPE.adapters} adapters of rank ${SHAPE.rank}, hidden ${SHAPE.hidden}, float16`
  const figure = (id: string, label: string, rest: Pick<Figure, 'unit' | 'value'> & Partial<Figure>): Figure => ({
    id: `gpu.decode.${id}`,
    group,
    label,
    ...rest,
  })
  return [
    figure('time', 'a call', { unit: 'µs', value: decode.ms * 1000 }),
    figure('bandwidth', 'bytes that must move ÷ time', { unit: 'GB/s', value: speed(decode) }),
    figure('copy', 'a copy inside the device, read and written', { unit: 'GB/s', value: speed(copy) }),
    figure('share', 'of the bandwidth of the copy', {
      unit: 'share',
      value: speed(decode) / speed(copy),
      target: { at: 'least', value: 0.8 },
    }),
  ]
}

export async function measureKernels({ cleanUp, progress, quick, signal }: BenchContext): Promise<Figure[]> {
  progress('compiling the kernels for this GPU')
  const folder = await temporaryFolder(cleanUp)
  const nvcc = (await run(path.join(root, 'kernels/cuda/build.sh'), ['nvcc'])).stdout.trim()
  const program = path.join(folder, 'lora-bench')
  const flags = ['-std=c++17', '-O3', '-arch=native', '-Ikernels', '-cudart', 'static']
  await run(nvcc, [...flags, '-o', program, ...loraBenchSources], { cwd: root, maxBuffer: 1 << 26, signal })
  const { hidden, adapters, rank } = SHAPE
  const { stdout } = await run(program, [hidden, adapters, rank, quick ? 40 : 400].map(String), { signal })
  return kernelFigures(readTimes(stdout))
}
