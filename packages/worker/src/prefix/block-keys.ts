/** What a block of the prefix cache is called: a hash over everything that its keys and values depend on. */
import { createHash } from 'node:crypto'
import type { AdapterDigest } from '@quiver/protocol'

/** Tokens of one block. Shorter ones find more, longer ones cost less to keep and copy. */
export const BLOCK_TOKENS = 16

/** Whose prompts may share blocks: all of this must be equal. */
export interface PrefixOwner {
  /** Undefined: the base model. */
  readonly digest?: AdapterDigest | undefined
  readonly tenant: string
  /** Parts a tenant's requests once more, where they name one. */
  readonly salt?: string | undefined
}

/**
 * The names of a prompt's whole blocks, first to last. Each is the SHA-256 of the name before it and the block's tokens, and
 * before the first stand the base and the owner; so a name stands for all tokens up to the block's end, and equal names
 * mean equal prompts of one owner. Nobody has ever found two texts of one SHA-256, so tokens are not compared again.
 * @param base what else the engine's keys and values depend on: model, element types, what applies adapters
 * @param atMost blocks beyond these are not named
 * @example blockKeys('model int8', { tenant: 'default' }, tokens, 128).length // whole blocks, at most 128
 */
export function blockKeys(base: string, owner: PrefixOwner, tokens: readonly number[], atMost: number): string[] {
  const keys: string[] = []
  const bytes = Buffer.allocUnsafe(BLOCK_TOKENS * 4)
  // As JSON, in which no choice of names makes one owner look like another.
  let before = hashOf(JSON.stringify([base, owner.digest ?? null, owner.tenant, owner.salt ?? null]))
  for (let block = 0; block < Math.min(atMost, Math.floor(tokens.length / BLOCK_TOKENS)); block += 1) {
    for (let i = 0; i < BLOCK_TOKENS; i += 1) bytes.writeUInt32LE(tokens[block * BLOCK_TOKENS + i] ?? 0, i * 4)
    before = hashOf(before, bytes)
    keys.push(before)
  }
  return keys
}

function hashOf(text: string, bytes?: Buffer): string {
  const hash = createHash('sha256').update(text)
  if (bytes !== undefined) hash.update(bytes)
  return hash.digest('base64url')
}
