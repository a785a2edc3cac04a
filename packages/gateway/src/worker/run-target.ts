/** What a run is placed by: a name for its adapter that every gateway gives it, and how much there is to compute. */
import { hash } from 'node:crypto'
import { type AdapterRef, type MemberRef, memberName, type RunRequest } from '@quiver/protocol'
import type { PlacementRequest } from '../placement/worker-view.ts'

/** Packed size of a usual adapter, taken for all: it only weighs a load against a queue, alike for all candidates. */
const USUAL_BYTES = 8 * 1024 * 1024
/** Of usual text. Only workers have the tokenizer. */
const CHARACTERS_PER_TOKEN = 4
/** References whose digest is remembered. */
const REMEMBERED = 10_000

/** The base model, or an adapter that is put in, with a short prompt. */
export const usualTarget: PlacementRequest = { bytes: USUAL_BYTES, promptTokens: 1 }

/**
 * Turns runs into what is placed. A registered adapter goes by its digest. What only a worker can resolve goes by its reference, so that
 * requests for it meet, until a worker has said which digest it had.
 */
export class RunTargets {
  /** In the order of learning. */
  readonly #digests = new Map<string, string>()

  of({ adapter, prompt }: Pick<RunRequest, 'adapter' | 'prompt'>): PlacementRequest {
    const key = keyOf(adapter)
    const size = { bytes: USUAL_BYTES, promptTokens: promptTokens(prompt) }
    return key === undefined ? size : { adapter: this.#digests.get(key) ?? key, ...size }
  }

  /** A worker has bound a run to these weights. */
  learn(adapter: AdapterRef, digest: string): void {
    const key = keyOf(adapter)
    if (key === undefined || key === digest) return
    this.#digests.delete(key)
    this.#digests.set(key, digest)
    for (const oldest of this.#digests.keys()) {
      if (this.#digests.size <= REMEMBERED) break
      this.#digests.delete(oldest)
    }
  }
}

function keyOf(adapter: AdapterRef): string | undefined {
  switch (adapter.kind) {
    case 'base':
      return undefined
    case 'registered':
      return adapter.digest
    case 'merged': {
      const { members, strategy, density, sign } = adapter
      const recipe = [members.map(({ ref, weight }) => [memberKey(ref), weight]), strategy, density, sign]
      return `merged:${hash('sha256', JSON.stringify(recipe), 'hex')}`
    }
    default:
      return memberKey(adapter)
  }
}

/** Without the token, which is nobody's business and does not change what is meant. */
function memberKey(ref: MemberRef): string {
  return ref.kind === 'registered' ? ref.digest : `${ref.kind}:${memberName(ref)}`
}

function promptTokens(prompt: RunRequest['prompt']): number {
  if (prompt.kind === 'tokens') return prompt.ids.length
  const characters =
    prompt.kind === 'text'
      ? prompt.text.length
      : prompt.messages.reduce((sum, { content }) => sum + (typeof content === 'string' ? content.length : 0), 0)
  return Math.max(1, Math.ceil(characters / CHARACTERS_PER_TOKEN))
}
