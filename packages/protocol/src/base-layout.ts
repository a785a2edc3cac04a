import { z } from 'zod'

/** The seven linear modules of a transformer layer that may carry an adapter, in the order of the forward pass. */
export const moduleNames = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const
export type ModuleName = (typeof moduleNames)[number]

/** Where a module sits inside `model.layers.<n>` in Hugging Face's names. */
export const moduleParent: Readonly<Record<ModuleName, 'self_attn' | 'mlp'>> = {
  q_proj: 'self_attn',
  k_proj: 'self_attn',
  v_proj: 'self_attn',
  o_proj: 'self_attn',
  gate_proj: 'mlp',
  up_proj: 'mlp',
  down_proj: 'mlp',
}

const positive = z.int().positive()

/** What an adapter must fit: the shape of every adaptable linear module of one base model. All layers are alike. */
export const baseLayoutSchema = z.object({
  baseModel: z.string(),
  hiddenSize: positive,
  layerCount: positive,
  modules: z.array(z.object({ name: z.enum(moduleNames), inFeatures: positive, outFeatures: positive })).nonempty(),
})
export type BaseLayout = z.infer<typeof baseLayoutSchema>
export type LinearModule = BaseLayout['modules'][number]
