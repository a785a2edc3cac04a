import { adapterSource } from './adapter-source.ts'
import type { HeaderContext } from './lorax-answer.ts'
import type { Generation, Run } from './start-run.ts'

/** @param digest of the weights, where only the worker could say it */
export function headerContext(
  { body, exchange }: Pick<Generation, 'body' | 'exchange'>,
  { request: { adapter }, info }: Pick<Run, 'request' | 'info'>,
  digest: string | undefined,
): HeaderContext {
  const found = adapter.kind === 'registered' ? adapter.digest : digest
  return {
    requestId: exchange.requestId,
    modelId: info.model.id,
    device: info.engine.device,
    placed: exchange.placed,
    ...(adapter.kind === 'base'
      ? {}
      : {
          adapter: {
            id: body.parameters.merged_adapters?.ids.join(',') ?? body.parameters.adapter_id ?? '',
            source: adapterSource(body.parameters),
            ...(found === undefined ? {} : { digest: found }),
          },
        }),
  }
}
