/**
 * The process that renders adapters' templates. A template is a program of whoever published the adapter: it may never end, and one
 * of a hundred characters can ask for more memory than there is, which V8 answers by ending the process, whatever limits a thread in
 * it has. So it is a process, and a thread in it renders, so that it notices when the worker is gone.
 */
import { Worker } from 'node:worker_threads'
import type { RenderReply, RenderRequest } from './template-messages.ts'

const thread = new Worker(new URL('./template-thread.ts', import.meta.url), {
  execArgv: [],
  resourceLimits: { maxOldGenerationSizeMb: 96, maxYoungGenerationSizeMb: 16, stackSizeMb: 4 },
})
thread.on('message', (reply: RenderReply) => process.send?.(reply))
thread.on('error', () => process.exit(1))
process.on('message', (request: RenderRequest) => thread.postMessage(request))
process.once('disconnect', () => process.exit(0))
// The worker decides when it ends: requests that it has taken are answered first.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {})
