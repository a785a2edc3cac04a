import type { ChatMessage } from '@quiver/protocol'

type Tool = Readonly<Record<string, unknown>>

const INTRODUCTION = 'You may call functions to answer. Each is described by a line of JSON:'

/**
 * Tools, calls and results as plain messages, for a chat template that has no place for them. Calls have the form of Hermes and Qwen,
 * which is the one that is looked for in the answer: `<tool_call>{"name": …, "arguments": …}</tool_call>`; results are the user's,
 * in `<tool_response>`.
 * @param introduction comes before the tools instead of our own words
 */
export function toolsAsText(
  messages: readonly ChatMessage[],
  tools: readonly Tool[] = [],
  introduction: string = INTRODUCTION,
): readonly ChatMessage[] {
  const plain = plainMessages(messages)
  if (tools.length === 0) return plain
  const described = describe(tools, introduction)
  const [first, ...rest] = plain
  return first?.role === 'system'
    ? [{ ...first, content: `${first.content ?? ''}\n\n${described}`.trimStart() }, ...rest]
    : [{ role: 'system', content: described }, ...plain]
}

/** Whether a conversation holds what only some templates have a place for. */
export function speaksOfTools(messages: readonly ChatMessage[]): boolean {
  return messages.some(({ role, tool_calls: calls }) => role === 'tool' || (Array.isArray(calls) && calls.length > 0))
}

function describe(tools: readonly Tool[], introduction: string): string {
  return [
    introduction,
    '<tools>',
    ...tools.map((tool) => JSON.stringify(tool)),
    '</tools>',
    'To call one, write its name and its arguments as JSON, like this:',
    '<tool_call>',
    '{"name": "the function\'s name", "arguments": {"an argument": "its value"}}',
    '</tool_call>',
  ].join('\n')
}

/** One pass, and each text is put together once: a request may hold thousands of results. */
function plainMessages(messages: readonly ChatMessage[]): readonly ChatMessage[] {
  const plain: ChatMessage[] = []
  let results: string[] = []
  // Templates that want the roles to take turns get the results of one turn as one message.
  const tellResults = () => {
    if (results.length > 0) plain.push({ role: 'user', content: results.join('\n') })
    results = []
  }
  for (const message of messages) {
    if (message.role === 'tool') results.push(`<tool_response>\n${message.content ?? ''}\n</tool_response>`)
    else {
      tellResults()
      plain.push(withCallsAsText(message))
    }
  }
  tellResults()
  return plain
}

function withCallsAsText(message: ChatMessage): ChatMessage {
  const { content, tool_calls: calls, tool_call_id: _, ...others } = message
  if (!Array.isArray(calls) || calls.length === 0) return message
  const written = calls.map((call: unknown) => `<tool_call>\n${callText(call)}\n</tool_call>`)
  return { ...others, content: [...(content ? [content] : []), ...written].join('\n') }
}

function callText(call: unknown): string {
  const called = isObject(call) && isObject(call['function']) ? call['function'] : {}
  return JSON.stringify({ name: called['name'] ?? '', arguments: called['arguments'] ?? {} })
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null
}
