import type { GenerateParameters } from './generate-schema.ts'

/** Where a request's adapter comes from: this server's catalogue, a folder beside the worker, or a place that is not offered. */
export type AdapterSource = 'store' | 'local' | 'hub' | 's3' | 'pbase' | 'unknown'

const SOURCES: ReadonlyMap<string, AdapterSource> = new Map<string, AdapterSource>([
  ['store', 'store'],
  ['local', 'local'],
  ['hub', 'hub'],
  ['s3', 's3'],
  ['pbase', 'pbase'],
])

/** LoRAX reads the source without regard to case; without one, the catalogue is meant. */
export function adapterSource({ adapter_source }: GenerateParameters): AdapterSource {
  if (adapter_source === null || adapter_source === undefined || adapter_source === '') return 'store'
  return SOURCES.get(adapter_source.toLowerCase()) ?? 'unknown'
}

/** An empty or absent id means the base model. */
export function isAdapterNamed<P extends GenerateParameters>(parameters: P): parameters is P & { adapter_id: string } {
  return parameters.adapter_id !== null && parameters.adapter_id !== undefined && parameters.adapter_id !== ''
}
