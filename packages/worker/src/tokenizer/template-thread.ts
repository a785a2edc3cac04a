/** The thread that renders adapters' templates, within a process of its own (template-process.ts). */
import assert from 'node:assert/strict'
import { parentPort } from 'node:worker_threads'
import { limits } from '@quiver/protocol'
import { createChatTemplate } from './chat-template.ts'
import type { RenderReply, RenderRequest } from './template-messages.ts'

function render({ source, messages, options, specialTokens, wallClockMs }: RenderRequest): RenderReply {
  try {
    const template = createChatTemplate(source, { specialTokens, wallClockMs: () => wallClockMs })
    const text = template.render(messages, options)
    if (text.length <= limits.renderedCharacters) return { type: 'rendered', text }
    const reason = `the template made more than ${limits.renderedCharacters} characters of them`
    return { type: 'refused', reason: `Failed applying chat template to inputs: ${reason}` }
  } catch (error) {
    return { type: 'refused', reason: error instanceof Error ? error.message.slice(0, 1000) : 'unknown' }
  }
}

assert(parentPort !== null, 'this file is the entry of a thread')
const port = parentPort
const reply = (message: RenderReply) => port.postMessage(message)
port.on('message', (request: RenderRequest) => reply(render(request)))
reply({ type: 'ready' })
