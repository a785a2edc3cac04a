/**
 * Rendezvous (highest random weight) hashing: every gateway orders the workers for a key alike, without talking, and a worker that
 * joins or leaves moves only the keys that are its own. Thaler and Ravishankar, "Using name-based mappings to increase hit rates",
 * IEEE/ACM Transactions on Networking 6 (1), 1998.
 */

/** 32-bit FNV-1a of a text's UTF-16 code units: enough to spread, not to defend. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  return hash >>> 0
}

/**
 * How much a key wants a worker, 0 ≤ weight < 2^32. Both hashes are mixed until each bit of either moves half of the result's
 * (the finalizer of MurmurHash3), since those of similar names are similar.
 */
export function rendezvousWeight(key: number, worker: number): number {
  let mixed = key ^ Math.imul(worker, 0x9e3779b1)
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}
