import { readFileSync } from 'node:fs'
import { z } from 'zod'

const schema = z.object({
  cases: z.array(
    z.object({
      adapter: z.string().nullable(),
      prompt: z.string(),
      prompt_ids: z.array(z.int()),
      token_ids: z.array(z.int()),
      text: z.string(),
      logprobs: z.array(z.number()),
      margin: z.array(z.number()),
    }),
  ),
})
export type GoldenCase = z.infer<typeof schema>['cases'][number]

/** What transformers and PEFT give in fp32, greedily, for the default model and the four example adapters. */
export const goldenCases: readonly GoldenCase[] = schema.parse(
  JSON.parse(readFileSync(new URL('../fixtures/golden.json', import.meta.url), 'utf8')),
).cases

/** How many tokens int8 must share with fp32: those before the first choice that was a close one. */
export function sureTokens({ margin }: GoldenCase): number {
  const close = margin.findIndex((gap) => gap < 0.25)
  return close === -1 ? margin.length : close
}
