/** Bodies of vLLM's and SGLang's routes for adapters. As there, unknown fields are ignored. */
import { z } from 'zod'

const text = z.string().max(2048).nullish()

export const loadAdapterSchema = z.object({
  lora_name: text.describe("The adapter's name."),
  lora_path: text.describe('A folder below a local root, an id of the hub, or `s3://bucket/path`.'),
  load_inplace: z.boolean().nullish().describe('Whether the name may be there already and gets another version. Of vLLM.'),
  pinned: z.boolean().nullish().describe('Whether it is pinned. Of SGLang.'),
})

export const unloadAdapterSchema = z.object({ lora_name: text.describe("The adapter's name.") })
