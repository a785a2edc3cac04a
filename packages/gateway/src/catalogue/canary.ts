import { hash } from 'node:crypto'
import type { AdapterName } from '@quiver/protocol'

const BITS = 48

/**
 * Whether a user belongs to the share of a name's requests that its canary answers. The same user always does or always does
 * not, on every gateway, and stays in when the share grows; of many users a share of them does. A user belongs to other shares
 * of other names.
 * @param sharePercent 0 … 100
 * @example isInCanary('acme/sql', 'user-17', 10)
 */
export function isInCanary(name: AdapterName, user: string, sharePercent: number): boolean {
  // No name has a NUL, so that no two pairs are one text.
  const digest = hash('sha256', `${name}\0${user}`, 'hex')
  return Number.parseInt(digest.slice(0, BITS / 4), 16) / 2 ** BITS < sharePercent / 100
}
