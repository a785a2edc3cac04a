/**
 * Which modules of a base model an adapter config speaks of. The rules are PEFT's (0.21: `check_target_module_exists` in
 * tuners/tuners_utils.py and `get_pattern_key` in utils/other.py), read there and checked against it in the tests.
 */
import type { BaseLayout, LinearModule } from '@quiver/protocol'
import { moduleParent } from '@quiver/protocol'
import type { AdapterConfig, NamePattern } from './adapter-config.ts'
import { adapterInvalid, type Problems, quoted } from './adapter-problem.ts'
import { compilePattern, MatchBudget, type Pattern } from './pattern.ts'

/** One linear module of one layer that the adapter changes. */
export interface TargetedModule {
  readonly layer: number
  readonly module: LinearModule
  readonly rank: number
  /** What B·A is multiplied with: alpha/rank, or alpha/√rank with rsLoRA. */
  readonly scale: number
}

/** Modules outside of the layers that an adapter may name and that we do not adapt. */
const unsupportedTargets = ['lm_head', 'model.embed_tokens'] as const
const PLAIN_NAME = /^[A-Za-z0-9_.]+$/

/** A module's path in the base model, as PEFT sees it. */
export function modulePath(layer: number, module: LinearModule): string {
  return `model.layers.${layer}.${moduleParent[module.name]}.${module.name}`
}

/**
 * All modules that the config targets, in layer order. Targets that this base does not have are added to `problems`.
 * @throws ServingError `adapter_invalid` when a pattern is malformed or too costly
 */
export function targetedModules(
  config: AdapterConfig,
  layout: BaseLayout,
  maxRank: number,
  problems: Problems,
): TargetedModule[] {
  const budget = new MatchBudget()
  const matchers = {
    isTarget: targetMatcher(config.targetModules, 'target_modules', budget),
    isExcluded: config.excludeModules === undefined ? () => false : nameMatcher(config.excludeModules, 'exclude_modules', budget),
    rank: firstPattern(config.rankPattern, 'rank_pattern', budget),
    alpha: firstPattern(config.alphaPattern, 'alpha_pattern', budget),
  }
  checkTargetsExist(config, layout, matchers.isTarget, problems)
  const targeted: TargetedModule[] = []
  for (let layer = 0; layer < layout.layerCount; layer++) {
    if (!isLayerTargeted(config, layer)) continue
    for (const module of layout.modules) {
      const path = modulePath(layer, module)
      if (!matchers.isTarget(path) || matchers.isExcluded(path)) continue
      const rank = matchers.rank(path) ?? config.rank
      const alpha = matchers.alpha(path) ?? config.alpha
      if (rank > maxRank) problems.add(`rank ${rank} of ${path} exceeds the maximum rank ${maxRank}`)
      targeted.push({ layer, module, rank, scale: config.rslora ? alpha / Math.sqrt(rank) : alpha / rank })
    }
  }
  return targeted
}

function checkTargetsExist(
  config: AdapterConfig,
  layout: BaseLayout,
  isTarget: (path: string) => boolean,
  problems: Problems,
): void {
  if (config.targetModules === 'all-linear') return
  for (const path of unsupportedTargets) {
    if (isTarget(path)) problems.add(`target_modules names ${path}: adapters on the embedding or the head are not supported`)
  }
  for (const layer of config.layersToTransform ?? []) {
    if (layer >= layout.layerCount)
      problems.add(`layers_to_transform names layer ${layer}; the base model has ${layout.layerCount} layers`)
  }
  if (typeof config.targetModules === 'string') return
  const paths = [...Array(layout.layerCount).keys()].flatMap((layer) => layout.modules.map((module) => modulePath(layer, module)))
  for (const target of config.targetModules) {
    const known = [...paths, ...unsupportedTargets].some((path) => isNamed(path, target))
    if (!known) {
      const have = layout.modules.map(({ name }) => name).join(', ')
      problems.add(`target_modules names ${quoted(target)}, which the base model does not have; it has ${have}`)
    }
  }
}

function targetMatcher(targets: AdapterConfig['targetModules'], field: string, budget: MatchBudget): (path: string) => boolean {
  // PEFT: every linear module but the output head, which is none of a layout's modules.
  if (targets === 'all-linear') return (path) => path.startsWith('model.layers.')
  return nameMatcher(targets, field, budget)
}

function nameMatcher(names: string | readonly string[], field: string, budget: MatchBudget): (path: string) => boolean {
  if (typeof names !== 'string') return (path) => names.some((name) => isNamed(path, name))
  const pattern = compilePattern(names, field)
  return (path) => pattern.matches(path, budget)
}

/** The whole path or its last parts. */
function isNamed(path: string, name: string): boolean {
  return path === name || path.endsWith(`.${name}`)
}

/** The value of the first key, in file order, that PEFT would match with `(.*\.)?(key)$`. */
function firstPattern(
  patterns: readonly NamePattern[],
  field: string,
  budget: MatchBudget,
): (path: string) => number | undefined {
  const compiled = patterns.map(({ key, value }) => ({ matches: suffixMatcher(key, field, budget), value }))
  return (path) => compiled.find(({ matches }) => matches(path))?.value
}

function suffixMatcher(key: string, field: string, budget: MatchBudget): (path: string) => boolean {
  if (!PLAIN_NAME.test(key)) {
    compilePattern(key, field)
    const pattern: Pattern = compilePattern(`(?:.*\\.)?(?:${key})`, field)
    return (path) => pattern.matches(path, budget)
  }
  // The common case, hundreds of keys against hundreds of modules: letters stand for themselves, a point for any character.
  return (path) => {
    const start = path.length - key.length
    if (start < 0 || (start > 0 && path[start - 1] !== '.')) return false
    for (let i = 0; i < key.length; i++) {
      if (key[i] !== '.' && key[i] !== path[start + i]) return false
    }
    return true
  }
}

function isLayerTargeted({ layersToTransform, layersPattern }: AdapterConfig, layer: number): boolean {
  if (layersToTransform === undefined) return true
  // Where the pattern names another list of layers than this base has, PEFT finds no index and leaves the module out.
  const found = layersPattern === undefined || layersPattern.some((pattern) => pattern === 'layers' || pattern === 'model.layers')
  if (!found)
    throw adapterInvalid(`layers_pattern ${quoted(layersPattern.join(', '))} does not name this base model's layers ("layers")`)
  return layersToTransform.includes(layer)
}
