import { networkInterfaces } from 'node:os'
import { ServingError } from '@quiver/protocol'

/**
 * Where gateways reach a worker: as the operator says, else where it listens, and where that is everywhere, the machine's first address
 * that others can reach.
 * @param listening the address that it was bound to
 * @throws ServingError `invalid_request` when the machine has no such address
 */
export function addressForOthers(given: string, listening: string): string {
  if (given !== '') return new URL(given).origin
  const url = new URL(listening)
  if (url.hostname !== '0.0.0.0' && url.hostname !== '[::]') return url.origin
  const found = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ family, internal }) => family === 'IPv4' && !internal)
  if (found === undefined) {
    throw new ServingError(
      'invalid_request',
      'this machine has no address that others can reach: name one with QUIVER_WORKER_ADDRESS',
    )
  }
  url.hostname = found.address
  return url.origin
}
