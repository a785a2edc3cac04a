import { describe, expect, it } from 'vitest'
import { MAX_CONFIG_BYTES, parseAdapterConfig } from '../../../packages/cache/src/format/adapter-config.ts'
import { jsonBytes } from '../../support/adapter-files.ts'
import { refusal } from '../../support/refusal.ts'

const MAX_RANK = 64
const sound = { peft_type: 'LORA', r: 8, lora_alpha: 16, target_modules: ['q_proj'] }
const parse = (fields: Record<string, unknown>) => parseAdapterConfig(jsonBytes({ ...sound, ...fields }), MAX_RANK)

const refused: readonly (readonly [string, unknown, RegExp])[] = [
  ['C01 an empty file', '', /ends too early/],
  ['C01 no JSON', 'r: 8', /not a JSON value/],
  ['C01 a list', [], /is a list of 0, not an object/],
  ['C01 more than 64 kB', ' '.repeat(MAX_CONFIG_BYTES + 1), /has 65537 bytes, more than 65536/],
  ['C01 a repeated key', '{"peft_type":"LORA","r":8,"r":16}', /"r" stands there twice/],
  ['C01 a lone control character', '{"peft_type":"LO\nRA"}', /control character/],
  ['C02 another method', { ...sound, peft_type: 'LOHA' }, /peft_type is "LOHA"; only "LORA"/],
  ['C02 no method', { ...sound, peft_type: undefined }, /peft_type is nothing/],
  ['C03 rank 0', { ...sound, r: 0 }, /r is 0; a whole number from 1 to 64/],
  ['C03 rank −1', { ...sound, r: -1 }, /r is -1;/],
  ['C03 rank 1.5', { ...sound, r: 1.5 }, /r is 1.5;/],
  ['C03 rank as text', { ...sound, r: '8' }, /r is "8";/],
  ['C03 no rank', { ...sound, r: undefined }, /r is nothing/],
  ['C03 rank above the maximum', { ...sound, r: 128 }, /rank 128 exceeds the maximum rank 64/],
  [
    'C03 a rank above the maximum in rank_pattern',
    { ...sound, rank_pattern: { q_proj: 65 } },
    /rank_pattern\["q_proj"\] is 65: rank 65 exceeds the maximum rank 64/,
  ],
  ['C04 no alpha', { ...sound, lora_alpha: undefined }, /lora_alpha is missing/],
  [
    'C04 alpha NaN',
    '{"peft_type":"LORA","r":8,"lora_alpha":NaN,"target_modules":["q_proj"]}',
    /"NaN" is not a JSON value .*near the key "lora_alpha"/,
  ],
  [
    'C04 alpha infinite',
    '{"peft_type":"LORA","r":8,"lora_alpha":1e999,"target_modules":["q_proj"]}',
    /1e999 is out of range .*"lora_alpha"/,
  ],
  ['C04 alpha negative', { ...sound, lora_alpha: -16 }, /lora_alpha is -16; a number of at least 0/],
  ['C04 alpha as text', { ...sound, lora_alpha: '16' }, /lora_alpha is "16"/],
  ['C04 alpha_pattern negative', { ...sound, alpha_pattern: { q_proj: -1 } }, /alpha_pattern\["q_proj"\] is -1/],
  ['C06 DoRA', { ...sound, use_dora: true }, /use_dora is true: DoRA/],
  ['C06 a trained bias', { ...sound, bias: 'lora_only' }, /bias is "lora_only"; only "none"/],
  ['C06 a bias on B', { ...sound, lora_bias: true }, /lora_bias is true/],
  ['C06 modules_to_save', { ...sound, modules_to_save: ['lm_head'] }, /modules_to_save is a list of 1/],
  ['C06 layer_replication', { ...sound, layer_replication: [[0, 4]] }, /layer_replication/],
  ['C06 fan_in_fan_out', { ...sound, fan_in_fan_out: true }, /fan_in_fan_out is true/],
  ['C06 trainable_token_indices', { ...sound, trainable_token_indices: [1] }, /trainable_token_indices/],
  ['C06 target_parameters', { ...sound, target_parameters: ['experts.w'] }, /target_parameters/],
  ['C06 QALoRA', { ...sound, use_qalora: true }, /use_qalora is true/],
  ['C06 BD-LoRA', { ...sound, use_bdlora: { nblocks: 2 } }, /use_bdlora is an object/],
  ['C06 activated LoRA', { ...sound, alora_invocation_tokens: [1, 2] }, /alora_invocation_tokens/],
  ['C06 Arrow', { ...sound, arrow_config: { top_k: 3 } }, /arrow_config/],
  [
    'C06 PiSSA without conversion',
    { ...sound, init_lora_weights: 'pissa_niter_4' },
    /init_lora_weights is "pissa_niter_4", which changes the base/,
  ],
  ['C06 use_rslora that is no switch', { ...sound, use_rslora: 'yes' }, /use_rslora is "yes"; true or false/],
  [
    'C06 layers_to_transform with text',
    { ...sound, layers_to_transform: ['0'] },
    /layers_to_transform is a list of 1; layer numbers/,
  ],
  [
    'C06 layers_to_transform with a pattern',
    { ...sound, target_modules: '.*q_proj', layers_to_transform: [0] },
    /cannot be used/,
  ],
  ['C06 layers_pattern alone', { ...sound, layers_pattern: 'layers' }, /layers_pattern needs layers_to_transform/],
  ['C06 rank_pattern that is a list', { ...sound, rank_pattern: [8] }, /rank_pattern is a list of 1; an object/],
  ['C07 no targets', { ...sound, target_modules: undefined }, /target_modules is nothing/],
  ['C07 empty targets', { ...sound, target_modules: [] }, /target_modules is a list of 0/],
  [
    'C07 targets that are no names',
    { ...sound, target_modules: ['q_proj', 1] },
    /target_modules is a list of 2; a list of names/,
  ],
]

describe('adapter_config.json', () => {
  it.each(refused)('%s is refused and named', async (_, fields, message) => {
    const error = await refusal(() => parseAdapterConfig(jsonBytes(fields), MAX_RANK))
    expect(error.code).toBe('adapter_invalid')
    expect(error.message).toMatch(message)
  })

  it('all reasons are told at once', async () => {
    const error = await refusal(() => parse({ r: 0, lora_alpha: -1, use_dora: true, bias: 'all' }))
    for (const word of ['r is 0', 'lora_alpha is -1', 'use_dora', 'bias is "all"']) expect(error.message).toContain(word)
  })

  it('C04 alpha 0 is allowed', () => {
    expect(parse({ lora_alpha: 0 }).alpha).toBe(0)
  })

  it('C06 everything that is switched off has no effect', () => {
    const off = {
      use_dora: false,
      bias: 'none',
      lora_bias: false,
      modules_to_save: null,
      layer_replication: [],
      fan_in_fan_out: false,
      rank_pattern: {},
      alpha_pattern: null,
      layers_to_transform: null,
      layers_pattern: [],
      exclude_modules: [],
      alora_invocation_tokens: null,
      loftq_config: {},
      init_lora_weights: 'gaussian',
    }
    expect(parse(off)).toEqual(parse({}))
  })

  it('C10 unknown keys and those for training have no effect', () => {
    const harmless = {
      auto_mapping: { base_model_class: 'X' },
      trust_remote_code: true,
      chat_template: '{{ 1 }}',
      peft_version: '9.9',
      lora_dropout: 0.5,
      revision: 'main',
      inference_mode: false,
      task_type: 'CAUSAL_LM',
      __proto__x: 1,
      something_new: [1, { a: 2 }],
    }
    expect(parse(harmless)).toEqual(parse({}))
  })

  it('C10 a key named __proto__ has no effect', () => {
    const text = `{"__proto__":{"r":1},"constructor":1,${JSON.stringify(sound).slice(1)}`
    expect(parseAdapterConfig(jsonBytes(text), MAX_RANK)).toEqual(parse({}))
    expect(Object.hasOwn(Object.prototype, 'r')).toBe(false)
  })

  it('keeps the order of patterns, in which the first that matches counts', () => {
    const text = JSON.stringify({ ...sound, rank_pattern: { b: 1, a: 2 } }).replace('"b":1', '"b":1,"10":3')
    expect(parseAdapterConfig(jsonBytes(text), MAX_RANK).rankPattern.map(({ key }) => key)).toEqual(['b', '10', 'a'])
  })
})
