import type { BaseLayout } from '@quiver/protocol'

/** Shapes of SmolLM2-135M-Instruct, the base of the adapters in examples/adapters. */
export const smollm2Layout: BaseLayout = {
  baseModel: 'HuggingFaceTB/SmolLM2-135M-Instruct',
  hiddenSize: 576,
  layerCount: 30,
  modules: [
    { name: 'q_proj', inFeatures: 576, outFeatures: 576 },
    { name: 'k_proj', inFeatures: 576, outFeatures: 192 },
    { name: 'v_proj', inFeatures: 576, outFeatures: 192 },
    { name: 'o_proj', inFeatures: 576, outFeatures: 576 },
    { name: 'gate_proj', inFeatures: 576, outFeatures: 1536 },
    { name: 'up_proj', inFeatures: 576, outFeatures: 1536 },
    { name: 'down_proj', inFeatures: 1536, outFeatures: 576 },
  ],
}
