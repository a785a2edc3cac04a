import type { WorkerInfo } from '@quiver/protocol'
import { type ClientLimits, defaultClientLimits } from '../client-limits.ts'
import { Permits } from '../permits.ts'

/** Body of `GET /info`: LoRAX's fields, and after them what computes here. */
export function describeServer(
  info: WorkerInfo,
  version: string,
  allowed: ClientLimits = defaultClientLimits,
  permits = new Permits(allowed.concurrentRequests),
  places = info.limits.sequences + info.limits.waiting,
): object {
  return {
    model_id: info.model.id,
    model_sha: info.model.sha,
    model_dtype: info.model.dtype,
    model_device_type: info.engine.device,
    model_pipeline_tag: 'text-generation',
    max_concurrent_requests: permits.bounded(places),
    max_best_of: allowed.bestOf,
    max_stop_sequences: allowed.stopSequences,
    max_input_length: info.limits.inputTokens,
    max_total_tokens: info.limits.totalTokens,
    // Who waits joins at the next step that has room; there is neither a ratio nor a wait to configure.
    waiting_served_ratio: 0,
    max_batch_total_tokens: info.limits.sequences * info.limits.totalTokens,
    max_waiting_tokens: 0,
    validation_workers: 1,
    eager_prefill: true,
    version,
    sha: null,
    docker_label: null,
    request_logger_url: null,
    engine: info.engine,
    adapter_slots: info.limits.slots,
    adapter_max_rank: info.limits.maxRank,
  }
}
