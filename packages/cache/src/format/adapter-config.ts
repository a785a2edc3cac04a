/**
 * A strict reader of PEFT's `adapter_config.json`. Every field that changes the mathematics is either implemented or
 * refused by name when it is on; fields that only concern training, and unknown ones that are off, have no effect.
 * Field names and meanings: `LoraConfig` of PEFT 0.21 (tuners/lora/config.py).
 */
import { Problems } from './adapter-problem.ts'
import {
  decodeUtf8,
  describeJson,
  integerOf,
  isJsonArray,
  isJsonNumber,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  readJson,
} from './json-reader.ts'

export const MAX_CONFIG_BYTES = 64 * 1024
const FILE = 'adapter_config.json'

/** One entry of `rank_pattern` or `alpha_pattern`; PEFT takes the first, in file order, whose key matches a module. */
export interface NamePattern {
  readonly key: string
  readonly value: number
}

/** The part of an adapter config that decides the mathematics. */
export interface AdapterConfig {
  /** For messages only: shapes decide whether an adapter fits. */
  readonly baseModel: string | undefined
  readonly rank: number
  readonly alpha: number
  readonly rslora: boolean
  /** Names or path ends; or one regular expression for the whole path; or `all-linear`. */
  readonly targetModules: readonly string[] | string
  readonly excludeModules: readonly string[] | string | undefined
  readonly rankPattern: readonly NamePattern[]
  readonly alphaPattern: readonly NamePattern[]
  /** Absent: all layers. */
  readonly layersToTransform: readonly number[] | undefined
  readonly layersPattern: readonly string[] | undefined
}

/** Fields that we do not implement. Each must be absent or have a value that switches it off. */
const unsupportedFields = new Map([
  ['use_dora', 'DoRA'],
  ['lora_bias', 'a bias on B'],
  ['modules_to_save', 'fully trained modules'],
  ['layer_replication', 'replicated layers'],
  ['fan_in_fan_out', 'transposed base weights'],
  ['trainable_token_indices', 'trained token embeddings'],
  ['target_parameters', 'adapters on bare parameters'],
  ['use_qalora', 'QALoRA'],
  ['use_bdlora', 'block-diagonal LoRA'],
  ['alora_invocation_tokens', 'activated LoRA'],
  ['alora_invocation_string', 'activated LoRA'],
  ['arrow_config', 'Arrow routing'],
  ['kasa_config', 'KaSA'],
  ['monteclora_config', 'MonteCLoRA'],
  ['velora_config', 'VeLoRA'],
  ['ensure_weight_tying', 'tied adapters'],
])

/** Initialisations after which the *base* weights differ from the published ones, so that the adapter alone is not enough. */
const changesBase = /^(?:pissa(?:_niter_\d+)?|olora|corda|loftq|lora_ga)$/

/**
 * @throws ServingError `adapter_invalid` with every reason found
 * @example parseAdapterConfig(await readFile('adapter_config.json'), 64).rank
 */
export function parseAdapterConfig(bytes: Uint8Array, maxRank: number): AdapterConfig {
  const problems = new Problems()
  if (bytes.length > MAX_CONFIG_BYTES) problems.add(`${FILE} has ${bytes.length} bytes, more than ${MAX_CONFIG_BYTES}`)
  problems.throwIfAny()
  const fields = readJson(decodeUtf8(bytes, FILE), FILE)
  if (!isJsonObject(fields)) {
    problems.add(`${FILE} is ${describeJson(fields)}, not an object`)
    problems.throwIfAny()
    throw new TypeError('unreachable')
  }
  const config = readFields(fields, maxRank, problems)
  problems.throwIfAny()
  return config
}

function readFields(fields: JsonObject, maxRank: number, problems: Problems): AdapterConfig {
  const type = fields.get('peft_type')
  if (type !== 'LORA') problems.add(`peft_type is ${describeJson(type)}; only "LORA" is supported`)
  refuseUnsupported(fields, problems)
  const baseModel = fields.get('base_model_name_or_path')
  const config = {
    baseModel: typeof baseModel === 'string' ? baseModel : undefined,
    rank: readRank(fields.get('r'), 'r', maxRank, problems),
    alpha: readAlpha(fields.get('lora_alpha'), 'lora_alpha', problems),
    rslora: readSwitch(fields.get('use_rslora'), 'use_rslora', problems),
    targetModules: readTargets(fields.get('target_modules'), problems),
    excludeModules: readNames(fields.get('exclude_modules'), 'exclude_modules', problems),
    rankPattern: readPatterns(fields, 'rank_pattern', problems, (value, name) => readRank(value, name, maxRank, problems)),
    alphaPattern: readPatterns(fields, 'alpha_pattern', problems, (value, name) => readAlpha(value, name, problems)),
    layersToTransform: readLayers(fields.get('layers_to_transform'), problems),
    layersPattern: readLayersPattern(fields.get('layers_pattern'), problems),
  }
  // PEFT refuses both combinations, so no adapter trained with it has them.
  if (typeof config.targetModules === 'string' && config.layersToTransform !== undefined) {
    problems.add('layers_to_transform cannot be used when target_modules is one pattern')
  }
  if (config.layersPattern !== undefined && config.layersToTransform === undefined) {
    problems.add('layers_pattern needs layers_to_transform')
  }
  return config
}

function refuseUnsupported(fields: JsonObject, problems: Problems): void {
  for (const [field, meaning] of unsupportedFields) {
    const value = fields.get(field)
    if (!isOff(value)) problems.add(`${field} is ${describeJson(value)}: ${meaning} is not supported`)
  }
  const bias = fields.get('bias')
  if (!isOff(bias) && bias !== 'none') problems.add(`bias is ${describeJson(bias)}; only "none" is supported`)
  const initial = fields.get('init_lora_weights')
  if (typeof initial === 'string' && changesBase.test(initial)) {
    problems.add(`init_lora_weights is ${describeJson(initial)}, which changes the base weights; save it as a plain LoRA adapter`)
  }
}

function isOff(value: JsonValue | undefined): boolean {
  if (value === undefined || value === null || value === false) return true
  return (isJsonArray(value) && value.length === 0) || (isJsonObject(value) && value.size === 0)
}

function readRank(value: JsonValue | undefined, name: string, maxRank: number, problems: Problems): number {
  const rank = integerOf(value)
  if (rank === undefined || rank < 1)
    problems.add(`${name} is ${describeJson(value)}; a whole number from 1 to ${maxRank} is needed`)
  else if (rank > maxRank) problems.add(`${name} is ${rank}: rank ${rank} exceeds the maximum rank ${maxRank}`)
  return rank ?? 1
}

function readAlpha(value: JsonValue | undefined, name: string, problems: Problems): number {
  // 0 is a legal way to say "base output"; −0 is not worth a sign in the scale.
  if (isJsonNumber(value) && value.value >= 0) return value.value + 0
  problems.add(`${name} is ${value === undefined ? 'missing' : describeJson(value)}; a number of at least 0 is needed`)
  return 0
}

function readSwitch(value: JsonValue | undefined, name: string, problems: Problems): boolean {
  if (value === undefined || value === null) return false
  if (typeof value !== 'boolean') problems.add(`${name} is ${describeJson(value)}; true or false is needed`)
  return value === true
}

function readTargets(value: JsonValue | undefined, problems: Problems): readonly string[] | string {
  // PEFT writes a resolved list, but takes the word in any case.
  if (typeof value === 'string' && value.toLowerCase() === 'all-linear') return 'all-linear'
  const names = readNames(value, 'target_modules', problems)
  if (names === undefined || names.length === 0)
    problems.add(`target_modules is ${describeJson(value)}; a list of module names is needed`)
  return names ?? []
}

function readNames(value: JsonValue | undefined, name: string, problems: Problems): readonly string[] | string | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value === 'string') return value === '' ? undefined : value
  const names = isJsonArray(value) ? value.filter((item) => typeof item === 'string' && item !== '') : []
  if (!isJsonArray(value) || names.length !== value.length) {
    problems.add(`${name} is ${describeJson(value)}; a list of names or one pattern is needed`)
    return undefined
  }
  return names.length === 0 ? undefined : [...new Set(names as readonly string[])]
}

function readPatterns(
  fields: JsonObject,
  field: string,
  problems: Problems,
  read: (value: JsonValue, name: string) => number,
): readonly NamePattern[] {
  const patterns = fields.get(field)
  if (patterns === undefined || patterns === null) return []
  if (!isJsonObject(patterns)) {
    problems.add(`${field} is ${describeJson(patterns)}; an object of module names and numbers is needed`)
    return []
  }
  return [...patterns].map(([key, value]) => ({ key, value: read(value, `${field}[${JSON.stringify(key.slice(0, 120))}]`) }))
}

function readLayers(value: JsonValue | undefined, problems: Problems): readonly number[] | undefined {
  if (value === undefined || value === null) return undefined
  const list = isJsonArray(value) ? value : [value]
  const layers = list.map((item) => integerOf(item))
  if (layers.some((layer) => layer === undefined)) {
    problems.add(`layers_to_transform is ${describeJson(value)}; layer numbers from 0 are needed`)
    return undefined
  }
  // PEFT takes an empty list for "all layers".
  return layers.length === 0 ? undefined : [...new Set(layers as readonly number[])]
}

function readLayersPattern(value: JsonValue | undefined, problems: Problems): readonly string[] | undefined {
  const names = readNames(value, 'layers_pattern', problems)
  return typeof names === 'string' ? [names] : names
}
