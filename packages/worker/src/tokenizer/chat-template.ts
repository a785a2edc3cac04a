import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja'
import { type ChatMessage, ServingError } from '@quiver/protocol'
import type { ChatTemplateOptions } from './tokenizer.ts'
import { speaksOfTools, toolsAsText } from './tool-text.ts'

export interface ChatTemplate {
  /** @throws ServingError `template_error` when the template refuses the conversation or is broken itself */
  render(messages: readonly ChatMessage[], options: ChatTemplateOptions): string
}

/** What a template may read beside the conversation. */
export interface ChatTemplateDeps {
  /** `bos_token`, `eos_token` and their like, as text. */
  readonly specialTokens: Readonly<Record<string, string>>
  /** Wall clock in milliseconds since 1970, for templates that state today's date. */
  wallClockMs(): number
}

/**
 * A conversation as the model was taught to read it, by the template that came with the model (never one from a request),
 * rendered as transformers' `apply_chat_template` does. `undefined` stands for a model without a template.
 */
export function createChatTemplate(source: string | undefined, deps: ChatTemplateDeps): ChatTemplate {
  let program: ReturnType<typeof parse> | undefined
  const takesTools = /\btools\b/.test(source ?? '')
  const compile = () => {
    if (source === undefined) throw new Error('this model has no chat template')
    // transformers sets both options of Jinja's environment.
    program ??= parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }))
    return program
  }
  return {
    render: (messages, { addGenerationPrompt = true, tools, toolPrompt }) => {
      try {
        const isPlain = takesTools || (tools === undefined && !speaksOfTools(messages))
        const environment = createEnvironment(deps)
        environment.set('messages', isPlain ? messages : toolsAsText(messages, tools, toolPrompt))
        environment.set('add_generation_prompt', addGenerationPrompt)
        if (tools !== undefined) environment.set('tools', tools)
        return String(new Interpreter(environment).run(compile()).value)
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error)
        throw new ServingError('template_error', `Failed applying chat template to inputs: ${reason}`, {}, { cause: error })
      }
    },
  }
}

function createEnvironment(deps: ChatTemplateDeps): Environment {
  const environment = new Environment()
  const constants = { true: true, True: true, false: false, False: false, none: null, None: null }
  for (const [name, value] of Object.entries({ ...constants, ...deps.specialTokens })) environment.set(name, value)
  environment.set('raise_exception', (message: unknown) => {
    throw new Error(String(message))
  })
  environment.set('strftime_now', (format: unknown) => formatDate(new Date(deps.wallClockMs()), String(format)))
  environment.set('range', range)
  return environment
}

/** A template that counts further is broken, and would not end. */
const MAX_RANGE = 100_000

function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second]
  const count = Math.max(0, Math.ceil((stop - start) / step))
  if (!Number.isFinite(count) || count > MAX_RANGE) throw new Error(`range(${start}, ${stop}, ${step}) is too long`)
  return Array.from({ length: count }, (_, index) => start + index * step)
}

const months = 'January February March April May June July August September October November December'.split(' ')
const weekdays = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ')

/** Python's `strftime` in English and in UTC, so far as templates use it; other directives stay as they are. */
function formatDate(date: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, '0')
  const month = months[date.getUTCMonth()] ?? ''
  const weekday = weekdays[date.getUTCDay()] ?? ''
  const parts: Readonly<Record<string, string>> = {
    Y: String(date.getUTCFullYear()),
    y: two(date.getUTCFullYear() % 100),
    m: two(date.getUTCMonth() + 1),
    d: two(date.getUTCDate()),
    B: month,
    b: month.slice(0, 3),
    A: weekday,
    a: weekday.slice(0, 3),
    H: two(date.getUTCHours()),
    I: two(date.getUTCHours() % 12 || 12),
    p: date.getUTCHours() < 12 ? 'AM' : 'PM',
    M: two(date.getUTCMinutes()),
    S: two(date.getUTCSeconds()),
    '%': '%',
  }
  return format.replace(/%([A-Za-z%])/g, (directive, name: string) => parts[name] ?? directive)
}
