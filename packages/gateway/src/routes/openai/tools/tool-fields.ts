/** `tools`, `tool_choice` and what goes with them, of a chat request. */
import { type Grammar, limits, ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { flag, text } from '../fields.ts'
import { callGrammar } from './call-grammar.ts'
import type { CallReader } from './call-reader.ts'
import { ForcedCalls } from './forced-calls.ts'
import { FoundCalls } from './found-calls.ts'

const object = 'must be an object'
const schema = z.record(z.string(), z.unknown(), { error: object })
const name = z
  .string({ error: 'must be a string' })
  .regex(/^[A-Za-z0-9_.-]{1,64}$/, { error: 'must have 1 to 64 letters, digits, "_", "-" and "."' })

const tool = z.object(
  {
    type: z.literal('function', { error: 'must be "function"' }),
    function: z.object(
      {
        name: name.describe('What a call names it by.'),
        description: text.nullish().describe('What it is for, for the model to read.'),
        parameters: schema.nullish().describe('A JSON schema of its arguments, of the type object. Without one it takes none.'),
        strict: flag.nullish().describe('Forced calls are strict, others are not, whatever this says.'),
      },
      { error: object },
    ),
  },
  { error: object },
)

/** Others than these four are refused with a word of their own. */
const namedChoice = z.object({ type: z.literal('function').nullish(), function: z.object({ name: text }) })

export const toolFields = {
  tools: z
    .array(tool, { error: 'must be a list of tools' })
    .max(limits.tools, { error: `must have at most ${limits.tools} tools` })
    .nullish()
    .describe('Functions that the model may call.'),
  tool_choice: z
    .union([text, namedChoice], { error: 'must be "none", "auto", "required" or a function to call' })
    .nullish()
    .describe(
      '`auto` (the default with tools): the model may call; `none`: tools are not shown to it; `required`: it must call; `{"type": "function", "function": {"name": …}}` or the name alone: it must call that one.',
    ),
  parallel_tool_calls: flag.nullish().describe('false: at most one call. True without it.'),
  tool_prompt: text
    .nullish()
    .describe("Introduces the tools, where the model's chat template has no place for them (a field of LoRAX and TGI)."),
} as const
type ToolFields = z.infer<z.ZodObject<typeof toolFields>>
type Tool = z.infer<typeof tool>

/** What tools mean for one request. */
export interface ToolUse {
  /** For the template. */
  readonly prompt: { readonly tools: Record<string, unknown>[]; readonly toolPrompt?: string }
  /** The form of a forced call. */
  readonly grammar: Grammar | undefined
  /** For each answer its own. */
  readonly openReader: () => CallReader
}

/**
 * @returns undefined for a request that shows the model no tools
 * @throws ServingError `tool_error`, with `param` for the field
 */
export function toolUseOf({ tools, tool_choice, parallel_tool_calls, tool_prompt }: ToolFields): ToolUse | undefined {
  const offered = tools ?? []
  const choice = choiceOf(tool_choice)
  const twice = offered.find((one, at) => offered.findIndex((other) => other.function.name === one.function.name) !== at)
  if (twice !== undefined) throw refused('tools', `the tool ${twice.function.name} is there twice`)
  if (offered.length === 0 && (choice === 'auto' || choice === 'none')) return undefined
  if (offered.length === 0) throw refused('tool_choice', 'a call can be forced only where there are `tools`')
  if (choice === 'none') return undefined
  const prompt = {
    tools: offered.map(asShown),
    ...(tool_prompt === null || tool_prompt === undefined ? {} : { toolPrompt: tool_prompt.toWellFormed() }),
  }
  const parallel = parallel_tool_calls ?? true
  if (choice === 'auto') {
    const names = new Set(offered.map((one) => one.function.name))
    return { prompt, grammar: undefined, openReader: () => new FoundCalls({ names, parallel }) }
  }
  const isList = choice === 'required' && parallel
  const grammar = callGrammar(forced(offered, choice), { isList })
  return { prompt, grammar, openReader: () => new ForcedCalls({ isList }) }
}

type Choice = 'none' | 'auto' | 'required' | { readonly name: string }

function choiceOf(given: ToolFields['tool_choice']): Choice {
  if (given === null || given === undefined) return 'auto'
  if (typeof given !== 'string') return given.function
  return given === 'none' || given === 'auto' || given === 'required' ? given : { name: given }
}

function forced(offered: readonly Tool[], choice: Exclude<Choice, 'none' | 'auto'>) {
  const functions = offered.map(({ function: { name, parameters } }) => ({ name, parameters: parameters ?? undefined }))
  if (choice === 'required') return functions
  const chosen = functions.filter(({ name }) => name === choice.name)
  if (chosen.length > 0) return chosen
  const named = JSON.stringify(choice.name.slice(0, 80))
  throw refused(
    'tool_choice',
    `there is no tool ${named} among \`tools\`; they are: ${functions.map(({ name }) => name).join(', ')}`,
  )
}

/** Without what is null: templates print tools as they are. */
function asShown({ type, function: { name, description, parameters } }: Tool): Record<string, unknown> {
  return {
    type,
    function: {
      name,
      ...(description === null || description === undefined ? {} : { description: description.toWellFormed() }),
      ...(parameters === null || parameters === undefined ? {} : { parameters }),
    },
  }
}

function refused(param: string, why: string): ServingError {
  return new ServingError('tool_error', `Tool error: ${why}`, { param })
}
