import { type ChildProcess, fork } from 'node:child_process'
import { createHash } from 'node:crypto'
import { type ChatMessage, type Clock, ServingError } from '@quiver/protocol'
import type { Timers } from '../timers.ts'
import type { RenderReply, RenderRequest } from './template-messages.ts'
import type { ChatTemplateOptions } from './tokenizer.ts'

export interface AdapterTemplatesDeps {
  /** `bos_token`, `eos_token` and their like, as text. */
  readonly specialTokens: Readonly<Record<string, string>>
  /** Wall clock in milliseconds since 1970, for templates that state today's date. */
  wallClockMs(): number
  readonly clock: Clock
  readonly timers: Timers
  readonly bounds?: Partial<AdapterTemplatesBounds>
}

export interface AdapterTemplatesBounds {
  /** How long one conversation may take. */
  readonly renderMs: number
  /** How long the process may take to start. */
  readonly startMs: number
  /** For how long a template that ended the process is refused untried. */
  readonly refusedMs: number
  /** Conversations that wait. */
  readonly waiting: number
}

const defaultBounds: AdapterTemplatesBounds = { renderMs: 2_000, startMs: 15_000, refusedMs: 60_000, waiting: 256 }
/** Templates known to be refused untried. */
const MOST_REFUSED = 256

/** A conversation and the template of the adapter that is to answer it. */
export interface RenderedConversation extends ChatTemplateOptions {
  readonly template: string
  readonly messages: readonly ChatMessage[]
}

interface Job {
  readonly conversation: RenderedConversation
  settle(result: string | ServingError): void
}

interface Renderer {
  readonly process: ChildProcess
  isReady: boolean
  callOff: () => void
}

/**
 * Renders conversations with the templates that came with adapters: one after the other, in a process that can be ended at any time
 * (template-process.ts), which is started when it is first needed. The batching loop never waits for it.
 */
export class AdapterTemplates {
  readonly #deps: AdapterTemplatesDeps
  readonly #bounds: AdapterTemplatesBounds
  readonly #queue: Job[] = []
  /** By digest of the template, until when. */
  readonly #refused = new Map<string, number>()
  #renderer: Renderer | undefined
  #job: Job | undefined
  #isClosed = false

  constructor(deps: AdapterTemplatesDeps) {
    this.#deps = deps
    this.#bounds = { ...defaultBounds, ...deps.bounds }
  }

  /**
   * @param signal the client's leaving: what nobody waits for any more is not rendered
   * @throws ServingError `template_error` when the template refuses the conversation, is broken, takes too long or too much memory,
   * or makes too long a text; `overloaded`
   */
  render(conversation: RenderedConversation, signal?: AbortSignal): Promise<string> {
    return new Promise((resolve, reject) => {
      const { renderMs, waiting } = this.#bounds
      if (this.#isClosed) throw new ServingError('draining', 'the worker is stopping')
      if (this.#isRefused(conversation.template)) throw failed(`it took more than ${renderMs} ms or too much memory just now`)
      if (this.#queue.length >= waiting)
        throw new ServingError('overloaded', `${waiting} conversations wait to be rendered already`)
      const job: Job = {
        conversation,
        settle: (result) => {
          signal?.removeEventListener('abort', leave)
          if (typeof result === 'string') resolve(result)
          else reject(result)
        },
      }
      const leave = () => this.#drop(job)
      signal?.addEventListener('abort', leave, { once: true })
      this.#queue.push(job)
      if (signal?.aborted === true) leave()
      this.#next()
    })
  }

  close(): void {
    this.#isClosed = true
    const renderer = this.#renderer
    if (renderer !== undefined) this.#end(renderer, new ServingError('draining', 'the worker is stopping'))
  }

  /** Nothing happens to a conversation that is being rendered: it ends in time. */
  #drop(job: Job): void {
    const at = this.#queue.indexOf(job)
    if (at === -1) return
    this.#queue.splice(at, 1)
    job.settle(new ServingError('client_closed', 'the client closed the request'))
  }

  #next(): void {
    if (this.#job !== undefined || this.#queue.length === 0 || this.#isClosed) return
    this.#renderer ??= this.#start()
    if (!this.#renderer.isReady) return
    const renderer = this.#renderer
    this.#job = this.#queue.shift()
    if (this.#job === undefined) return
    const { renderMs } = this.#bounds
    renderer.callOff = this.#deps.timers.after(renderMs, () => this.#end(renderer, failed(`it takes more than ${renderMs} ms`)))
    const { template: source, messages, ...options } = this.#job.conversation
    const { specialTokens, wallClockMs } = this.#deps
    const request: RenderRequest = { source, messages, options, specialTokens, wallClockMs: wallClockMs() }
    renderer.process.send(request)
  }

  #start(): Renderer {
    // It gets nothing of this process: no environment, no output, no options.
    const child = fork(new URL('./template-process.ts', import.meta.url), [], {
      env: {},
      execArgv: [],
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    })
    const { startMs } = this.#bounds
    const cannotStart = () => new ServingError('internal', "the process for adapters' chat templates does not start")
    const callOff = this.#deps.timers.after(startMs, () => this.#end(renderer, cannotStart()))
    const renderer: Renderer = { process: child, isReady: false, callOff }
    child.on('message', (reply: RenderReply) => this.#take(renderer, reply))
    child.on('error', () => this.#end(renderer, cannotStart()))
    child.on('exit', () => this.#end(renderer, renderer.isReady ? failed('it takes too much memory') : cannotStart()))
    child.unref()
    child.channel?.unref()
    return renderer
  }

  #take(renderer: Renderer, reply: RenderReply): void {
    if (this.#renderer !== renderer) return
    renderer.callOff()
    renderer.isReady = true
    const job = this.#job
    this.#job = undefined
    if (reply.type === 'rendered') job?.settle(reply.text)
    else if (reply.type === 'refused') job?.settle(new ServingError('template_error', reply.reason))
    this.#next()
  }

  /** Whoever is being served gets the error, and when the process never started, so does everybody who waits for it. */
  #end(renderer: Renderer, error: ServingError): void {
    if (this.#renderer !== renderer) return
    this.#renderer = undefined
    renderer.callOff()
    renderer.process.kill('SIGKILL')
    const job = this.#job
    this.#job = undefined
    if (job !== undefined && error.code === 'template_error') this.#refuse(job.conversation.template)
    job?.settle(error)
    if (!renderer.isReady || this.#isClosed) for (const waiting of this.#queue.splice(0)) waiting.settle(error)
    this.#next()
  }

  #refuse(template: string): void {
    const [oldest] = this.#refused.keys()
    if (this.#refused.size >= MOST_REFUSED && oldest !== undefined) this.#refused.delete(oldest)
    this.#refused.set(digestOf(template), this.#deps.clock.nowMs() + this.#bounds.refusedMs)
  }

  #isRefused(template: string): boolean {
    if (this.#refused.size === 0) return false
    const digest = digestOf(template)
    const untilMs = this.#refused.get(digest)
    if (untilMs === undefined) return false
    if (untilMs > this.#deps.clock.nowMs()) return true
    this.#refused.delete(digest)
    return false
  }
}

function digestOf(template: string): string {
  return createHash('sha256').update(template).digest('base64')
}

function failed(reason: string): ServingError {
  return new ServingError(
    'template_error',
    `Failed applying chat template to inputs: ${reason}. It is the adapter's own template, which its publisher has to correct`,
  )
}
