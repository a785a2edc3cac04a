import { assertNever, type Grammar } from '@quiver/protocol'
import { requirePattern } from './pattern-check.ts'
import { requireSchema } from './schema-check.ts'
import type { GrammarSource } from './thread-messages.ts'

/**
 * What is compiled for a grammar.
 * @throws ServingError `invalid_parameters` for what the compiler would take and not hold to
 */
export function sourceOf(grammar: Grammar): GrammarSource {
  switch (grammar.kind) {
    case 'json_object':
      return { kind: 'schema', schema: '{"type":"object"}', closed: false }
    case 'json_schema':
      return { kind: 'schema', schema: JSON.stringify(requireSchema(grammar.schema)), closed: true }
    case 'regex':
      requirePattern(grammar.pattern)
      return { kind: 'regex', pattern: grammar.pattern }
    default:
      return assertNever(grammar)
  }
}
