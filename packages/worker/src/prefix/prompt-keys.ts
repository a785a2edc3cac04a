import type { RunRequest } from '@quiver/protocol'
import type { SequenceAdapter, Task } from '../step/sequence.ts'
import type { PrefixCache } from './prefix-cache.ts'

export interface PromptRun {
  readonly request: Pick<RunRequest, 'tenant' | 'cacheSalt'>
  readonly promptIds: readonly number[]
  readonly task: Task
}

/**
 * The names of a run's blocks in the prefix cache.
 * @returns undefined for a run that computes all of its prompt, because it wants to know something of every row
 */
export function promptKeys(
  prefix: Pick<PrefixCache, 'keys'>,
  { request, promptIds, task }: PromptRun,
  adapter: SequenceAdapter,
): readonly string[] | undefined {
  if (task.kind === 'embed' || task.prefillDetails) return undefined
  const digest = adapter.kind === 'adapter' ? adapter.lease.digest : undefined
  return prefix.keys({ digest, tenant: request.tenant, salt: request.cacheSalt }, promptIds)
}
