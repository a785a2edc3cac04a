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
  const plain = messages.reduce<ChatMessage[]>(withPlain, [])
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

function withPlain(before: ChatMessage[], message: ChatMessage): ChatMessage[] {
  const { role, content, tool_calls: calls, tool_call_id: _, ...others } = message
  if (role === 'tool') {
    const result = `<tool_response>\n${content ?? ''}\n</tool_response>`
    const last = before.at(-1)
    // Templates that want the roles to take turns get the results of one turn as one message.
    if (last?.role !== 'user' || !last.content?.endsWith('</tool_response>'))
      return [...before, { role: 'user', content: result }]
    return [...before.slice(0, -1), { role: 'user', content: `${last.content}\n${result}` }]
  }
  if (!Array.isArray(calls) || calls.length === 0) return [...before, message]
  const written = calls.map((call: unknown) => `<tool_call>\n${callText(call)}\n</tool_call>`)
  return [...before, { ...others, role, content: [...(content ? [content] : []), ...written].join('\n') }]
}

function callText(call: unknown): string {
  const called = isObject(call) && isObject(call['function']) ? call['function'] : {}
  return JSON.stringify({ name: called['name'] ?? '', arguments: called['arguments'] ?? {} })
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null
}
