import type { RunRequest, WorkerInfo } from '@quiver/protocol'
import type { Placed } from '../../worker/worker-source.ts'
import { commonHeaders } from '../lorax-answer.ts'

export interface Answered {
  readonly requestId: string
  readonly info: WorkerInfo
  /** As the request names it. */
  readonly model: string
  /** All texts that were given, for their count of characters. */
  readonly inputs: string
  /** Any of the request's runs: they share their adapter. */
  readonly run: RunRequest | undefined
  /** Of the weights, where the worker has said it. */
  readonly digest: string | undefined
  /** Where the request's first run was sent, if it was. */
  readonly placed: Placed | undefined
}

/** The headers of an answer of the `/v1` routes that are known before its runs end. */
export function answerHeaders({ requestId, info, model, inputs, run, digest, placed }: Answered): Record<string, string> {
  const found = run?.adapter.kind === 'registered' ? run.adapter.digest : digest
  return commonHeaders(
    { inputs },
    {
      requestId,
      modelId: info.model.id,
      device: info.engine.device,
      placed,
      ...(run === undefined || run.adapter.kind === 'base'
        ? {}
        : {
            adapter: {
              id: model,
              source: run.adapter.kind === 'registered' ? 'store' : run.adapter.kind,
              ...(found === undefined ? {} : { digest: found }),
            },
          }),
    },
  )
}
