import { readFileSync } from 'node:fs'
import type { BaseLayout } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { parseAdapterConfig } from '../../../packages/cache/src/format/adapter-config.ts'
import { Problems } from '../../../packages/cache/src/format/adapter-problem.ts'
import { modulePath, targetedModules } from '../../../packages/cache/src/format/module-match.ts'
import { jsonBytes, tinyLayout } from '../../support/adapter-files.ts'

/** Made by scripts/make-peft-matching.py with PEFT itself. */
const fixture = z
  .object({
    cases: z.array(
      z.object({ config: z.record(z.string(), z.unknown()), targeted: z.record(z.string(), z.tuple([z.number(), z.number()])) }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('../../fixtures/peft-matching.json', import.meta.url), 'utf8')))
const layout: BaseLayout = { ...tinyLayout, layerCount: 12 }
const target = (fields: Record<string, unknown>, problems = new Problems()) =>
  targetedModules(parseAdapterConfig(jsonBytes({ peft_type: 'LORA', r: 8, lora_alpha: 16, ...fields }), 64), layout, 64, problems)

describe('the modules that a config targets', () => {
  it.each(fixture.cases.map((entry): [string, typeof entry] => [JSON.stringify(entry.config), entry]))(
    'are those of PEFT for %s',
    (_, entry) => {
      const found = target(entry.config)
      const described = Object.fromEntries(
        found.map(({ layer, module, rank, scale }) => [modulePath(layer, module), [rank, scale * rank]]),
      )
      expect(described).toEqual(entry.targeted)
    },
  )

  it('C07 are all linear modules for all-linear, in any case', () => {
    expect(target({ target_modules: 'All-Linear' })).toHaveLength(12 * 7)
  })

  it.each([
    [
      { target_modules: ['q_proj', 'query_key_value'] },
      /target_modules names "query_key_value", which the base model does not have; it has q_proj/,
    ],
    [{ target_modules: ['q_proj', 'lm_head'] }, /target_modules names lm_head: .* not supported/],
    [{ target_modules: ['q_proj', 'embed_tokens'] }, /target_modules names model.embed_tokens/],
    [{ target_modules: '.*' }, /target_modules names lm_head/],
    [
      { target_modules: ['q_proj'], layers_to_transform: [12] },
      /layers_to_transform names layer 12; the base model has 12 layers/,
    ],
  ])('C07 are refused for %j', (fields, message) => {
    const problems = new Problems()
    target(fields, problems)
    expect(() => problems.throwIfAny()).toThrow(message)
  })

  it('C05 have the scale alpha/r, and alpha/√r with rsLoRA, with the rank of the module', () => {
    const fields = { target_modules: ['q_proj'], rank_pattern: { 'layers.1.self_attn.q_proj': 4 } }
    expect(
      target(fields)
        .map(({ scale }) => scale)
        .slice(0, 2),
    ).toEqual([2, 4])
    expect(
      target({ ...fields, use_rslora: true })
        .map(({ scale }) => scale)
        .slice(0, 2),
    ).toEqual([16 / Math.sqrt(8), 8])
  })
})
