import { readFileSync } from 'node:fs'
import { z } from 'zod'

const schema = z.object({
  cases: z.array(
    z.object({ adapter: z.string().nullable(), input: z.string(), tokens: z.array(z.int()), embedding: z.base64() }),
  ),
})
type EmbeddingCase = Omit<z.infer<typeof schema>['cases'][number], 'embedding'> & { readonly embedding: readonly number[] }

/** What transformers and PEFT give as embeddings with the default model in fp32 (scripts/make-embedding-fixtures.py). */
export const embeddingCases: readonly EmbeddingCase[] = schema
  .parse(JSON.parse(readFileSync(new URL('../fixtures/embeddings.json', import.meta.url), 'utf8')))
  .cases.map((one) => ({ ...one, embedding: floatsOf(one.embedding) }))

/** The float32 numbers of a base64 text, little-endian. */
export function floatsOf(base64: string): number[] {
  const bytes = Buffer.from(base64, 'base64')
  return Array.from({ length: bytes.length / 4 }, (_, at) => bytes.readFloatLE(at * 4))
}

/** The largest difference of two vectors' numbers; infinite where their lengths differ. */
export function distance(a: readonly number[], b: readonly number[]): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY
  return a.reduce((most, value, at) => Math.max(most, Math.abs(value - (b[at] ?? Number.NaN))), 0)
}
