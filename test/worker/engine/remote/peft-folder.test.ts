import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PackedAdapter, PackedDtype } from '@quiver/cache'
import { describe, expect, it } from 'vitest'
import { readAdapter } from '../../../../packages/cache/src/format/inspect.ts'
import { packAdapter } from '../../../../packages/cache/src/format/pack.ts'
import { writePeftFolder } from '../../../../packages/worker/src/engine/remote/peft-folder.ts'
import { buildAdapter, tinyLayout } from '../../../support/adapter-files.ts'
import { fakeDigest } from '../../../support/fake-adapter-cache.ts'
import { temporaryFolder } from '../../../support/temporary-folder.ts'

async function packed(files: Parameters<typeof readAdapter>[0], dtype: PackedDtype): Promise<PackedAdapter> {
  const adapter = await readAdapter(files, tinyLayout, 64)
  return (await packAdapter(adapter, { digest: fakeDigest('a'), layout: tinyLayout, dtype })).adapter
}

describe('writePeftFolder', () => {
  it.each(['f32', 'f16'] as const)('writes what PEFT reads as the same weights: %s, other ranks, rsLoRA', async (dtype) => {
    const original = await packed(
      buildAdapter({ rank: 4, alpha: 6, targets: ['q_proj', 'v_proj', 'down_proj'], config: { use_rslora: true } }),
      dtype,
    )
    const [first, ...others] = original.modules
    if (first === undefined) throw new Error('an adapter has modules')
    const half = { ...first, rank: 2, a: first.a.slice(0, first.a.length / 2), b: first.b.slice(0, first.b.length / 2) }
    const mixed = { ...original, modules: [half, ...others] }
    const folder = join(await temporaryFolder(), 'adapter')
    await writePeftFolder(folder, mixed, tinyLayout)
    const [config, weights] = await Promise.all(
      ['adapter_config.json', 'adapter_model.safetensors'].map(
        async (name) => new Uint8Array(await readFile(join(folder, name))),
      ),
    )
    if (config === undefined || weights === undefined) throw new Error('two files')
    expect(JSON.parse(new TextDecoder().decode(config))).toMatchObject({
      peft_type: 'LORA',
      r: 4,
      lora_alpha: 4,
      use_rslora: false,
    })
    const back = await packed({ config, weights }, dtype)
    expect(back.rank).toBe(4)
    expect(back.modules.map(({ layer, module }) => [layer, module])).toEqual(
      mixed.modules.map(({ layer, module }) => [layer, module]),
    )
    for (const [index, module] of mixed.modules.entries()) {
      const { a, b } = back.modules[index] ?? first
      const zeros = (values: PackedAdapter['modules'][number]['a'], from: number) =>
        values.slice(from).every((value) => value === 0)
      expect(a.slice(0, module.a.length)).toEqual(module.a)
      expect(b.slice(0, module.b.length)).toEqual(module.b)
      expect([zeros(a, module.a.length), zeros(b, module.b.length)]).toEqual([true, true])
    }
  })

  it('replaces a folder as a whole', async () => {
    const parent = await temporaryFolder()
    const adapter = await packed(buildAdapter(), 'f32')
    for (let time = 0; time < 2; time++) await writePeftFolder(join(parent, 'adapter'), adapter, tinyLayout)
    expect(await readdir(parent)).toEqual(['adapter'])
    expect((await readdir(join(parent, 'adapter'))).toSorted()).toEqual(['adapter_config.json', 'adapter_model.safetensors'])
  })
})
