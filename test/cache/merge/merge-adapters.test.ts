import type { BaseLayout } from '@quiver/protocol'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { f16ToNumber } from '../../../packages/cache/src/format/half.ts'
import { readAdapter } from '../../../packages/cache/src/format/inspect.ts'
import { modulePath } from '../../../packages/cache/src/format/module-match.ts'
import type { PackedAdapter, PackedArray, PackedDtype } from '../../../packages/cache/src/format/packed-adapter.ts'
import { readPacked } from '../../../packages/cache/src/format/packed-file.ts'
import type { ValidAdapter } from '../../../packages/cache/src/format/validate.ts'
import type { DareMask } from '../../../packages/cache/src/merge/dare-mask.ts'
import { mergeAdapters } from '../../../packages/cache/src/merge/merge-adapters.ts'
import { type MergeRecipe, mergedDigest } from '../../../packages/cache/src/merge/merge-recipe.ts'
import { type AdapterOptions, buildAdapter, tinyLayout } from '../../support/adapter-files.ts'
import { type MergeCase, mergeCases, mergeLayout, mergeMember, recipeOf } from '../../support/merge-fixtures.ts'
import { digestFor } from '../../support/packed-adapters.ts'
import { randomFrom, randomSeed } from '../../support/random-seed.ts'
import { refusal } from '../../support/refusal.ts'

const never = new AbortController().signal

interface Options {
  readonly layout?: BaseLayout
  readonly dtype?: PackedDtype
  readonly mask?: DareMask
}

async function merged(recipe: MergeRecipe, adapters: readonly ValidAdapter[], options: Options = {}) {
  const { layout = mergeLayout, dtype = 'f32', mask } = options
  const target = { digest: mergedDigest(recipe), layout, dtype }
  return await mergeAdapters({ recipe, adapters, target, signal: never, ...(mask === undefined ? {} : { mask }) })
}

async function tinyAdapter(options: AdapterOptions): Promise<ValidAdapter> {
  return await readAdapter(buildAdapter(options), tinyLayout, 64)
}

const numbersOf = (array: PackedArray): number[] =>
  array instanceof Float32Array ? [...array] : Array.from(array, (bits) => f16ToNumber(bits))

const title = ({ strategy, names, weights, density, sign }: MergeCase) =>
  `${strategy} of ${names.join(', ')} by ${weights.join(', ')}, density ${density}, ${sign}`

describe('is what PEFT makes of the same adapters, to 1e-5', () => {
  test.each(mergeCases.map((one) => [title(one), one] as const))('%s', async (_, one) => {
    const adapters = await Promise.all(one.names.map(mergeMember))
    const { adapter } = await merged(recipeOf(one), adapters, { mask: recordedMask(one, adapters) })
    expect(adapter.rank).toBe(one.rank)
    const found = new Map(adapter.modules.map((module) => [pathOf(module), module]))
    expect([...found.keys()].sort()).toEqual(Object.keys(one.expected).sort())
    for (const [path, { a, b }] of Object.entries(one.expected)) {
      const module = found.get(path)
      // Where PEFT was given padded pairs, all of a module may be padding beyond our rank.
      expectClose(padded(numbersOf(module?.a ?? new Float32Array()), a.length), a, `${path} A`)
      expectClose(padded(numbersOf(module?.b ?? new Float32Array()), b.length), transposed(b, one.rank), `${path} Bᵀ`)
    }
  })

  test('every strategy and sign is among them, and unequal ranks', () => {
    const kinds = mergeCases.map(({ strategy, sign }) => `${strategy} ${sign}`)
    expect(kinds).toEqual(
      expect.arrayContaining([
        'linear total',
        'ties total',
        'ties frequency',
        'dare_linear total',
        'dare_ties total',
        'dare_ties frequency',
      ]),
    )
    expect(mergeCases.filter(({ names }) => names.includes('wide'))).toHaveLength(3)
  })
})

describe('pruning', () => {
  test('TIES refuses a density that would keep nothing of a tensor, and says how much is needed', async () => {
    const adapter = await tinyAdapter({ rank: 1 })
    const error = await refusal(() => merged(tinyRecipe('ties', 0.2), [adapter, adapter], { layout: tinyLayout }))
    expect(error.code).toBe('adapter_invalid')
    expect(error.message).toBe(
      'density 0.2 keeps none of the 4 values of lora_A of model.layers.0.self_attn.q_proj in adapter "one": use at least 0.25',
    )
  })

  test('DARE drops the same values on every machine', async () => {
    const adapter = await tinyAdapter({ rank: 4, value: () => 1, alpha: 4 })
    const { adapter: packed } = await merged(tinyRecipe('dare_linear', 0.5), [adapter, adapter], { layout: tinyLayout })
    expect(numbersOf(packed.modules[1]?.a ?? new Float32Array()).join('')).toBe('0424402242022442')
  })

  test('among values of one magnitude the first stay', async () => {
    const adapter = await tinyAdapter({ rank: 1, alpha: 1, value: (_, i) => (i % 2 === 0 ? 1 : -1) })
    const { adapter: packed } = await merged(tinyRecipe('ties', 0.5), [adapter, adapter], { layout: tinyLayout })
    expect(numbersOf(packed.modules[0]?.a ?? new Float32Array())).toEqual([1, -1, 0, 0])
  })

  test('DARE keeps about the density of all values, and divides them by it', async () => {
    const options = { rank: 64, alpha: 64, targets: tinyLayout.modules.map(({ name }) => name), value: () => 1 }
    const adapter = await tinyAdapter(options)
    const { adapter: packed } = await merged(tinyRecipe('dare_linear', 0.25), [adapter, adapter], { layout: tinyLayout })
    const values = packed.modules.flatMap(({ a, b }) => [...numbersOf(a), ...numbersOf(b)])
    expect(new Set(values)).toEqual(new Set([0, 4, 8]))
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length
    expect(mean).toBeGreaterThan(1.85)
    expect(mean).toBeLessThan(2.15)
  })
})

describe('refusals', () => {
  test.each(['f16', 'f32'] as const)('a value beyond what %s holds is refused with its place', async (dtype) => {
    const adapter = await tinyAdapter({ value: () => (dtype === 'f16' ? 60000 : 3e38) })
    const error = await refusal(() => merged(tinyRecipe('linear', 1, [9, 9]), [adapter, adapter], { layout: tinyLayout, dtype }))
    expect([error.code, error.message]).toEqual([
      'adapter_invalid',
      expect.stringMatching(
        /^lora_A of model\.layers\.0\.self_attn\.q_proj of the merged adapter holds a value beyond .* smaller weights$/,
      ),
    ])
  })

  test('an aborted merge stops between slices', async () => {
    const adapter = await tinyAdapter({ rank: 64, targets: tinyLayout.modules.map(({ name }) => name) })
    const layout = { ...tinyLayout }
    const controller = new AbortController()
    controller.abort(new Error('enough'))
    const many = Array.from({ length: 8 }, (_, at) => ({ name: `m${at}`, digest: digestFor('m'), weight: 1 }))
    const recipe: MergeRecipe = { members: many, strategy: 'dare_ties', density: 0.5, sign: 'total' }
    const target = { digest: mergedDigest(recipe), layout, dtype: 'f16' as const }
    const run = mergeAdapters({ recipe, adapters: many.map(() => adapter), target, signal: controller.signal })
    await expect(run).rejects.toThrow('enough')
  })
})

describe('properties', () => {
  const seed = randomSeed('merge properties')
  const random = randomFrom(seed)
  const adapterOf = (rank: number) => tinyAdapter({ rank, targets: ['q_proj', 'down_proj'], value: () => random() - 0.5 })
  const pool = Promise.all([1, 2, 4, 4].map(adapterOf))
  const recipe = fc.record({
    members: fc.array(fc.record({ at: fc.nat(3), weight: fc.double({ min: -2, max: 2, noNaN: true }) }), {
      minLength: 1,
      maxLength: 4,
    }),
    strategy: fc.constantFrom('linear', 'ties', 'dare_linear', 'dare_ties'),
    density: fc.double({ min: 0.3, max: 1, noNaN: true }),
    sign: fc.constantFrom('total', 'frequency'),
  })
  type Drawn = typeof recipe extends fc.Arbitrary<infer T> ? T : never
  const run = async (drawn: Drawn, dtype: PackedDtype) => {
    const adapters = await pool
    const members = drawn.members.map(({ at, weight }) => ({ name: `m${at}`, digest: digestFor(`m${at}`), weight }))
    const chosen = drawn.members.flatMap(({ at }) => adapters[at] ?? [])
    return await merged({ ...drawn, members } as MergeRecipe, chosen, { layout: tinyLayout, dtype })
  }

  test('the same request has the same bytes, and its file is read back as it was made', async () => {
    await fc.assert(
      fc.asyncProperty(recipe, fc.constantFrom('f16', 'f32'), async (drawn, dtype) => {
        const [first, second] = [await run(drawn, dtype), await run(drawn, dtype)]
        expect(Buffer.compare(first.file, second.file)).toBe(0)
        const read = await readPacked(first.file, { digest: first.adapter.digest, layout: tinyLayout, dtype })
        expect(read.modules.map(valuesOf)).toEqual(first.adapter.modules.map(valuesOf))
      }),
      { seed, numRuns: 60 },
    )
  })

  test('the order of members changes nothing of linear and TIES but the last bits, and no weight is lost', async () => {
    await fc.assert(
      fc.asyncProperty(recipe, async (drawn) => {
        fc.pre(drawn.strategy === 'linear' || drawn.strategy === 'ties')
        const [forth, back] = [await run(drawn, 'f32'), await run({ ...drawn, members: drawn.members.toReversed() }, 'f32')]
        expectClose(everyValue(forth.adapter), everyValue(back.adapter), 'reversed')
        const flipped = drawn.members.map(({ at, weight }) => ({ at, weight: -weight }))
        const opposite = await run({ ...drawn, members: flipped }, 'f32')
        for (const [index, module] of forth.adapter.modules.entries()) {
          expectClose(numbersOf(opposite.adapter.modules[index]?.b ?? new Float32Array()), numbersOf(module.b), 'B')
          expectClose(
            numbersOf(opposite.adapter.modules[index]?.a ?? new Float32Array()).map((value) => -value),
            numbersOf(module.a),
            'A',
          )
        }
      }),
      { seed, numRuns: 60 },
    )
  })

  test('one adapter by the weight 1 has its own effect, whatever the strategy', async () => {
    const [, , adapter] = await pool
    for (const strategy of ['linear', 'ties', 'dare_linear', 'dare_ties'] as const) {
      const recipe: MergeRecipe = {
        members: [{ name: 'm', digest: digestFor('m'), weight: 1 }],
        strategy,
        density: 0.5,
        sign: 'total',
      }
      const { adapter: packed } = await merged(recipe, adapter === undefined ? [] : [adapter], { layout: tinyLayout })
      // alpha 4 over rank 4 is the scale 1, so even the two sides are those of the file.
      const [pair] = adapter?.pairs ?? []
      expect(
        Buffer.from(
          packed.modules[0]?.a.buffer ?? new ArrayBuffer(),
          packed.modules[0]?.a.byteOffset,
          packed.modules[0]?.a.byteLength,
        ),
      ).toEqual(Buffer.from(pair?.a.bytes ?? []))
    }
  })
})

describe('the digest of a merge', () => {
  const base: MergeRecipe = {
    members: ['one', 'two'].map((name) => ({ name, digest: digestFor(name), weight: 0.5 })),
    strategy: 'dare_ties',
    density: 0.5,
    sign: 'total',
  }
  const [one, two] = base.members

  test('does not depend on names, nor on fields that have no effect', () => {
    const renamed = { ...base, members: base.members.map((member) => ({ ...member, name: 'x' })) }
    expect(mergedDigest(renamed)).toBe(mergedDigest(base))
    const linear = { ...base, strategy: 'linear' } as const
    expect(mergedDigest({ ...linear, density: 1, sign: 'frequency' })).toBe(mergedDigest(linear))
    const dare = { ...base, strategy: 'dare_linear' } as const
    expect(mergedDigest({ ...dare, sign: 'frequency' })).toBe(mergedDigest(dare))
  })

  test('changes with members, their order, weights, method, density and sign', () => {
    if (one === undefined || two === undefined) throw new Error('two members')
    const others: MergeRecipe[] = [
      base,
      { ...base, members: [two, one] },
      { ...base, members: [one] },
      { ...base, members: [one, two, two] },
      { ...base, members: [one, { ...two, weight: 0.25 }] },
      { ...base, strategy: 'ties' },
      { ...base, strategy: 'dare_linear' },
      { ...base, strategy: 'linear' },
      { ...base, density: 0.25 },
      { ...base, sign: 'frequency' },
    ]
    expect(new Set(others.map(mergedDigest)).size).toBe(others.length)
  })

  test('is one that never changes for this version', () => {
    expect(mergedDigest(base)).toBe('c91651d9ada25eaf9330d310bfee55c710bf0c59a3f412d7cad60fd60fff2334')
  })
})

function tinyRecipe(strategy: MergeRecipe['strategy'], density: number, weights = [1, 1]): MergeRecipe {
  const members = weights.map((weight, at) => ({ name: at === 0 ? 'one' : 'two', digest: digestFor(`tiny-${at}`), weight }))
  return { members, strategy, density, sign: 'total' }
}

/** PEFT's recorded masks: B's is turned round, since ours is asked in the order of Bᵀ. */
function recordedMask({ masks, rank }: MergeCase, adapters: readonly ValidAdapter[]): DareMask {
  return ({ layer, module, side, member }) => {
    const has = adapters.map(({ pairs }) => pairs.find((pair) => pair.layer === layer && pair.module.name === module))
    const pair = has[member]
    if (pair === undefined) throw new Error('only a member with the module is masked')
    const before = has.slice(0, member).filter((other) => other !== undefined).length
    const count = has.filter((other) => other !== undefined).length
    const recorded = [...(masks[modulePath(layer, pair.module)]?.[side === 'A' ? before : count + before] ?? '')]
    // PEFT was given padded pairs; only the part that is really there is asked for.
    const own = side === 'A' ? recorded.slice(0, pair.rank * pair.module.inFeatures) : transposed(recorded, rank)
    let next = 0
    return () => own[next++] === '1'
  }
}

/** [rows, columns] to [columns, rows]. */
function transposed<T>(values: readonly T[], columns: number): T[] {
  const rows = values.length / columns
  return Array.from({ length: values.length }, (_, at) => values[(at % rows) * columns + Math.floor(at / rows)] as T)
}

function padded(values: readonly number[], length: number): readonly number[] {
  return [...values, ...Array<number>(length - values.length).fill(0)]
}

function pathOf({ layer, module }: PackedAdapter['modules'][number]): string {
  return modulePath(layer, { name: module, inFeatures: 0, outFeatures: 0 })
}

const valuesOf = ({ layer, module, rank, a, b }: PackedAdapter['modules'][number]) => ({
  layer,
  module,
  rank,
  a: numbersOf(a),
  b: numbersOf(b),
})

const everyValue = ({ modules }: PackedAdapter) => modules.flatMap(({ a, b }) => [...numbersOf(a), ...numbersOf(b)])

function expectClose(found: readonly number[], expected: readonly number[], what: string): void {
  expect(found.length, what).toBe(expected.length)
  const worst = found.reduce((most, value, at) => Math.max(most, Math.abs(value - (expected[at] ?? Number.NaN))), 0)
  expect(worst, what).toBeLessThan(1e-5)
}
