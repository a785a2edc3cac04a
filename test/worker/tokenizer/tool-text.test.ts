import type { ChatMessage } from '@quiver/protocol'
import { describe, expect, it } from 'vitest'
import { createChatTemplate } from '../../../packages/worker/src/tokenizer/chat-template.ts'
import { toolsAsText } from '../../../packages/worker/src/tokenizer/tool-text.ts'

const tools = [{ type: 'function', function: { name: 'look' } }]
const user: ChatMessage = { role: 'user', content: 'Hi' }
const call = { id: 'c', type: 'function', function: { name: 'look', arguments: { at: 'x' } } }
const plainTemplate = "{% for m in messages %}[{{ m['role'] + ':' + m['content'] }}]{% endfor %}"

describe('tools, for a template that has no place for them,', () => {
  it('are a message of the system', () => {
    const [system, ...rest] = toolsAsText([user], tools)
    expect(rest).toEqual([user])
    expect(system?.role).toBe('system')
    expect(system?.content).toContain('<tools>\n{"type":"function","function":{"name":"look"}}\n</tools>')
    expect(system?.content).toContain('<tool_call>\n{"name": ')
  })

  it('stand after what the system says already, and behind the words of the request', () => {
    const [system] = toolsAsText([{ role: 'system', content: 'Be brief.' }, user], tools, 'Functions:')
    expect(system?.content).toMatch(/^Be brief\.\n\nFunctions:\n<tools>\n/)
  })

  it('leave calls in the form that is looked for, and results as the turn of the user', () => {
    const messages: ChatMessage[] = [
      user,
      { role: 'assistant', content: null, tool_calls: [call, call] },
      { role: 'tool', content: 'one', tool_call_id: 'c' },
      { role: 'tool', content: 'two', tool_call_id: 'c' },
      { role: 'assistant', content: 'Done.' },
    ]
    const written = '<tool_call>\n{"name":"look","arguments":{"at":"x"}}\n</tool_call>'
    expect(toolsAsText(messages)).toEqual([
      user,
      { role: 'assistant', content: `${written}\n${written}` },
      {
        role: 'user',
        content: '<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>',
      },
      { role: 'assistant', content: 'Done.' },
    ])
  })

  // Each result was once added to the text of all before it, which for thousands of them held up every stream for ten seconds.
  it('leave the results of thousands of calls as one turn of the user', () => {
    const results = Array.from({ length: 5000 }, (_, at): ChatMessage => ({ role: 'tool', content: `${at}`.repeat(60) }))
    const [first, only, last, ...others] = toolsAsText([user, ...results, user])
    expect([first, last, others]).toEqual([user, user, []])
    expect(only?.role).toBe('user')
    expect(only?.content?.match(/<tool_response>/g)).toHaveLength(5000)
  })

  it('are rendered so, also when only the conversation speaks of them', () => {
    const template = createChatTemplate(plainTemplate, { specialTokens: {}, wallClockMs: () => 0 })
    const history: ChatMessage[] = [user, { role: 'assistant', content: null, tool_calls: [call] }]
    expect(template.render(history, {})).toBe(
      '[user:Hi][assistant:<tool_call>\n{"name":"look","arguments":{"at":"x"}}\n</tool_call>]',
    )
    expect(template.render([user], { tools, toolPrompt: 'Functions:' })).toMatch(/^\[system:Functions:\n<tools>/)
  })
})

it('a template that takes tools gets them and the calls as they are', () => {
  const source =
    '{% for t in tools %}{{ t | tojson }}{% endfor %}{% for m in messages %}{{ m.role }}{% if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.name }}{% endfor %}{% endif %}{% endfor %}'
  const template = createChatTemplate(source, { specialTokens: {}, wallClockMs: () => 0 })
  expect(template.render([user, { role: 'assistant', content: null, tool_calls: [call] }], { tools })).toBe(
    '{"type": "function", "function": {"name": "look"}}userassistantlook',
  )
})
