/** What an answer must look like, to the last character. */
import { z } from 'zod'
import { limits } from './limits.ts'

/**
 * `json_object`: any JSON object. `json_schema`: a JSON text that fits the schema, given as an object or as JSON text. `regex`: a text
 * that the whole pattern matches.
 */
export const grammarSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('json_object') }),
  z.object({
    kind: z.literal('json_schema'),
    schema: z.union([z.record(z.string(), z.unknown()), z.string().max(limits.grammarBytes)]),
  }),
  z.object({ kind: z.literal('regex'), pattern: z.string().min(1).max(limits.grammarPatternCharacters) }),
])
export type Grammar = z.infer<typeof grammarSchema>
