/**
 * The routes that generate. They answer without the router where nothing but their own work is to be done: the exact path, and a caller
 * who may. Everything else, a refusal above all, goes through the router to the very same answers.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ServingError } from '@quiver/protocol'
import { anyone, type Caller, callerLog, callerWith } from '../auth/guard.ts'
import { runShare } from '../auth/run-share.ts'
import type { TimerClock } from '../clock.ts'
import type { AppDeps } from './app.ts'
import { errorResponse, logFailure } from './error-response.ts'
import { type NodeExchange, readRequestId } from './exchange.ts'
import { answerGenerate, type GenerateMode } from './generate.ts'
import { answerOpenai, type OpenaiDeps } from './openai/complete.ts'
import { openaiErrorResponse } from './openai/respond.ts'
import { type PlainAnswer, writeAnswer } from './plain-answer.ts'

/** How long the rest of a refused body is read on. */
const REST_PATIENCE_MS = 500

type Answer = (deps: OpenaiDeps, node: NodeExchange) => Promise<PlainAnswer | Response>

const generate =
  (mode: GenerateMode): Answer =>
  (deps, node) =>
    answerGenerate(deps, mode, node)

/** By path; all are asked with POST and want the right `generate`. */
const answers: ReadonlyMap<string, Answer> = new Map<string, Answer>([
  ['/', generate('compat')],
  ['/invocations', generate('compat')],
  ['/generate', generate('whole')],
  ['/generate_stream', generate('stream')],
  ['/v1/completions', (deps, node) => answerOpenai(deps, 'completion', node)],
  ['/v1/chat/completions', (deps, node) => answerOpenai(deps, 'chat', node)],
])
/** One that can stand in a URL; what is wrong with any other the router says. */
const USUAL_HOST = /^(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$/i

export const generationPaths: readonly string[] = [...answers.keys()]

/** What the routes know of the caller. */
export function depsFor(deps: AppDeps, caller: Caller, { headers }: Pick<IncomingMessage, 'headers'>): OpenaiDeps {
  return {
    ...deps,
    tenant: caller.tenant,
    share: runShare(caller.share ?? {}, headers),
    catalogue: deps.catalogue.visibleTo(caller.tenant),
    log: callerLog(deps.log, caller),
  }
}

/** Answers a request of one of `generationPaths`. Resolves when that is written, or goes on writing by itself. */
export async function answerGeneration(deps: AppDeps, path: string, caller: Caller, node: NodeExchange): Promise<void> {
  const refuse = path.startsWith('/v1/') ? openaiErrorResponse : errorResponse
  const requestId = () => readRequestId(node.incoming.headers['x-request-id']) ?? deps.newId()
  const { incoming, outgoing } = node
  outgoing.once('finish', () => discardRest(incoming, deps.clock))
  try {
    const answer = deps.phase() === 'draining' ? undefined : await answers.get(path)?.(depsFor(deps, caller, incoming), node)
    // Only a connection from before can bring one while the server closes; the next one goes elsewhere.
    await writeAnswer(answer ?? refuse(draining(), requestId(), { connection: 'close' }), outgoing)
  } catch (thrown) {
    const id = requestId()
    logFailure(deps.log, thrown, id)
    if (outgoing.headersSent) outgoing.destroy()
    else await writeAnswer(refuse(thrown, id), outgoing)
  }
}

/** @returns whether the request was taken; otherwise the router has to answer it */
export function answersDirectly(deps: AppDeps): (incoming: IncomingMessage, outgoing: ServerResponse) => boolean {
  return (incoming, outgoing) => {
    const { method, url = '', headers } = incoming
    if (method !== 'POST' || !answers.has(url) || !USUAL_HOST.test(headers.host ?? '')) return false
    const caller = deps.keys === undefined ? anyone : callerWith(deps.keys, headers, 'generate')
    if (caller === undefined) return false
    void answerGeneration(deps, url, caller, { incoming, outgoing })
    return true
  }
}

/** What is left of a refused body is read and thrown away for a moment, so that its sender gets to read why; then it is cut off. */
function discardRest(incoming: IncomingMessage, clock: TimerClock): void {
  if (incoming.complete || incoming.destroyed) return
  const stop = clock.after(REST_PATIENCE_MS, () => incoming.socket.destroySoon())
  incoming.once('end', stop).once('close', stop)
  incoming.resume()
}

export function draining(): ServingError {
  return new ServingError('draining', 'The server is being stopped')
}
