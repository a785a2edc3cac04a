import type { Bench } from './bench.ts'
import { engineBench } from './engine/engine-bench.ts'
import { gatewayBench } from './gateway/gateway-bench.ts'
import { gpuBench } from './gpu/gpu-bench.ts'
import { opsBench } from './ops/ops-bench.ts'
import { placementBench } from './placement/placement-bench.ts'
import { qualityBench } from './quality/quality-bench.ts'
import { serveBench } from './serve/serve-bench.ts'
import { soakBench } from './serve/soak-bench.ts'
import { tiersBench } from './tiers/tiers-bench.ts'

/** Every bench by its name, in the order of docs/benchmarks.md. */
export const benches: ReadonlyMap<string, Bench> = new Map(
  [engineBench, qualityBench, opsBench, tiersBench, placementBench, gatewayBench, serveBench, soakBench, gpuBench].map(
    (bench) => [bench.name, bench],
  ),
)
