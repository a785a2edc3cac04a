import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { inspectAdapter, readAdapter } from '../../../packages/cache/src/format/inspect.ts'
import { packAdapter } from '../../../packages/cache/src/format/pack.ts'
import { readPacked } from '../../../packages/cache/src/format/packed-file.ts'
import { smollm2Layout as layout } from '../../support/smollm2-layout.ts'

const folder = new URL('../../../examples/adapters/', import.meta.url)
const read = (name: string, file: string): Uint8Array<ArrayBuffer> =>
  new Uint8Array(readFileSync(new URL(`${name}/${file}`, folder)))
const attention = ['q_proj', 'k_proj', 'v_proj', 'o_proj']
const examples = [
  { name: 'support-json', rank: 16, scale: 32 / 16, modules: attention },
  { name: 'text-to-sql', rank: 8, scale: 16 / 8, modules: ['q_proj', 'v_proj'] },
  { name: 'sentiment', rank: 4, scale: 8 / Math.sqrt(4), modules: attention },
  { name: 'shout', rank: 8, scale: 16 / 8, modules: [...attention, 'gate_proj', 'up_proj', 'down_proj'] },
]

/** Reads one element with nothing but the format's definition. */
function plainReader(file: Uint8Array<ArrayBuffer>) {
  const view = new DataView(file.buffer)
  const headerBytes = Number(view.getBigUint64(0, true))
  const header = JSON.parse(Buffer.from(file.buffer, 8, headerBytes).toString('utf8'))
  return (name: string, row: number, column: number): number => {
    const { dtype, shape, data_offsets: offsets } = header[name]
    expect(dtype).toBe('F16')
    const bits = view.getUint16(8 + headerBytes + offsets[0] + 2 * (row * shape[1] + column), true)
    return halfValue(bits)
  }
}

function halfValue(bits: number): number {
  const magnitude = bits & 0x7c00 ? (1 + (bits & 1023) / 1024) * 2 ** (((bits >>> 10) & 31) - 15) : (bits & 1023) * 2 ** -24
  return bits & 0x8000 ? -magnitude : magnitude
}

describe.each(examples)('the example adapter $name', ({ name, rank, scale, modules }) => {
  const config = read(name, 'adapter_config.json')
  const weights = read(name, 'adapter_model.safetensors')

  it('fits SmolLM2-135M', async () => {
    await expect(inspectAdapter(config, weights, layout, 64)).resolves.toMatchObject({ rank, modules, bytes: weights.length })
  })

  it('is packed with the values that plain arithmetic gives', async () => {
    const { digest } = await inspectAdapter(config, weights, layout, 64)
    const { file } = await packAdapter(await readAdapter({ config, weights }, layout, 64), { digest, layout, dtype: 'f16' })
    const packed = await readPacked(file, { digest, layout, dtype: 'f16' })
    const element = plainReader(weights)
    expect(packed.modules).toHaveLength(30 * modules.length)
    for (const { layer, module, a, b } of packed.modules) {
      const { inFeatures, outFeatures } = layout.modules.find((shape) => shape.name === module) ?? {
        inFeatures: 0,
        outFeatures: 0,
      }
      const parent =
        module.endsWith('gate_proj') || module.endsWith('up_proj') || module.endsWith('down_proj') ? 'mlp' : 'self_attn'
      const path = `base_model.model.model.layers.${layer}.${parent}.${module}`
      for (let i = 0; i < 40; i++) {
        const [r, x, y] = [i % rank, (i * 37) % inFeatures, (i * 53) % outFeatures]
        expect(halfValue(a[r * inFeatures + x] ?? 0), `${path} A[${r}, ${x}]`).toBe(element(`${path}.lora_A.weight`, r, x))
        // All four scales are powers of two or exact here, so that the product has no rounding but below 2^-14.
        expect(halfValue(b[r * outFeatures + y] ?? 0), `${path} B[${y}, ${r}]`).toBeCloseTo(
          scale * element(`${path}.lora_B.weight`, y, r),
          7,
        )
      }
    }
  })
})

describe('an adapter of 5 MB', () => {
  it('is read from its packed file in a few milliseconds', async () => {
    const files = { config: read('shout', 'adapter_config.json'), weights: read('shout', 'adapter_model.safetensors') }
    const { digest } = await inspectAdapter(files.config, files.weights, layout, 64)
    const { file } = await packAdapter(await readAdapter(files, layout, 64), { digest, layout, dtype: 'f16' })
    const times: number[] = []
    for (let i = 0; i < 5; i++) {
      const startedAt = performance.now()
      await readPacked(file, { digest, layout, dtype: 'f16' })
      times.push(performance.now() - startedAt)
    }
    console.log(`readPacked of ${file.length} bytes: best of 5 ${Math.min(...times).toFixed(1)} ms`)
    // The target is 8 ms; a machine that tests in parallel gets room.
    expect(Math.min(...times)).toBeLessThan(40)
  })
})
