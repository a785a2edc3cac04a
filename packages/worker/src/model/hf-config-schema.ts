import { z } from 'zod'

const positive = z.int().positive()
const optionalNumber = z.number().nullish()

/** `rope_scaling` of transformers 4 and `rope_parameters` of transformers 5; the kind is `type` in the oldest files. */
const ropeParametersSchema = z.object({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: z.number().positive().optional(),
  factor: z.number().optional(),
  low_freq_factor: z.number().optional(),
  high_freq_factor: z.number().optional(),
  original_max_position_embeddings: positive.optional(),
  partial_rotary_factor: z.number().optional(),
})
export type RopeParameters = z.infer<typeof ropeParametersSchema>

/** The fields of `config.json` that decide the computation; what none of the supported families reads is dropped. */
export const hfConfigSchema = z.object({
  hidden_size: positive,
  num_hidden_layers: positive,
  num_attention_heads: positive,
  num_key_value_heads: positive.nullish(),
  head_dim: positive.nullish(),
  intermediate_size: positive,
  vocab_size: positive,
  max_position_embeddings: positive.optional(),
  original_max_position_embeddings: positive.optional(),
  rms_norm_eps: z.number().positive().optional(),
  rope_theta: z.number().positive().optional(),
  rope_scaling: ropeParametersSchema.nullish(),
  rope_parameters: ropeParametersSchema.nullish(),
  partial_rotary_factor: optionalNumber,
  tie_word_embeddings: z.boolean().optional(),
  attention_bias: z.boolean().optional(),
  mlp_bias: z.boolean().optional(),
  hidden_act: z.string().optional(),
  sliding_window: positive.nullish(),
  use_sliding_window: z.boolean().optional(),
  max_window_layers: z.int().nonnegative().optional(),
  layer_types: z.array(z.string()).nullish(),
  eos_token_id: z.union([z.int().nonnegative(), z.array(z.int().nonnegative())]).nullish(),
  quantization_config: z.looseObject({ quant_method: z.string().optional() }).nullish(),
})
export type HfConfig = z.infer<typeof hfConfigSchema>
