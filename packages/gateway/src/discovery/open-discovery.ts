import type { Discovery } from './discovery.ts'
import { staticDiscovery } from './discovery.ts'
import { type DnsDeps, dnsDiscovery } from './dns-discovery.ts'
import { redisDiscovery } from './redis-discovery.ts'
import type { RedisRegistry } from './redis-registry.ts'

/**
 * Every way in which a gateway was told to find workers, by the name that a pool keeps their lists apart by.
 * @param places addresses as `http://host:port` and names as `dns+http://name:port`
 * @param registry absent without Redis
 */
export function openDiscovery(
  places: readonly string[],
  registry: RedisRegistry | undefined,
  deps: DnsDeps & { readonly random: () => number },
): ReadonlyMap<string, Discovery> {
  const names = places.filter((place) => place.startsWith('dns+'))
  const addresses = places.filter((place) => !place.startsWith('dns+'))
  return new Map<string, Discovery>([
    ...(addresses.length === 0 ? [] : ([['static', staticDiscovery(addresses)]] as const)),
    ...names.map((name) => [name, dnsDiscovery(name, deps)] as const),
    ...(registry === undefined ? [] : ([['redis', redisDiscovery(registry, deps)]] as const)),
  ])
}
