/**
 * Who may administer: the holder of the server's one admin key, an API key with the right, or, on a server that has neither, this
 * machine itself.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'

/** What the admin key's holder is called in the audit log. */
export const ADMIN_KEY_ID = 'admin-key'

/** Put there by proxies. Where one stands before the server, its peer says nothing about who asks. */
const FORWARDING_HEADERS = [
  ...['forwarded', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-forwarded-port', 'x-real-ip'],
  ...['x-client-ip', 'x-cluster-client-ip', 'cf-connecting-ip', 'true-client-ip', 'x-original-forwarded-for'],
]

/** Takes the same time however much of a wrong key is right. */
export function isAdminKey(adminKey: string, shown: string): boolean {
  return timingSafeEqual(sha256(adminKey), sha256(shown))
}

/**
 * Whether a request comes from this machine, without anything in between. By the socket's address and never by a header, since
 * anybody can write one; a header of a proxy, also one on this machine, means that somebody else asks through it. The `Host`
 * must be this machine too, and an `Origin` must be that host: else a page in the operator's browser could ask in its place.
 */
export function isFromThisMachine({ socket, headers }: Pick<IncomingMessage, 'socket' | 'headers'>): boolean {
  if (!isLoopbackAddress(socket.remoteAddress ?? '')) return false
  if (FORWARDING_HEADERS.some((name) => headers[name] !== undefined)) return false
  const host = hostOf(`http://${headers.host ?? ''}`)
  if (host === undefined || !isLoopbackHost(host.hostname)) return false
  const { origin } = headers
  if (origin !== undefined && hostOf(origin)?.host !== host.host) return false
  return headers['sec-fetch-site'] === undefined || ['same-origin', 'none'].includes(String(headers['sec-fetch-site']))
}

function isLoopbackAddress(address: string): boolean {
  const plain = address.replace(/^::ffff:/i, '')
  return plain === '::1' || (isIP(plain) === 4 && plain.startsWith('127.'))
}

/** A name other than `localhost` may be anybody's that resolves to here. */
function isLoopbackHost(hostname: string): boolean {
  return hostname === 'localhost' || isLoopbackAddress(hostname.replace(/^\[(.*)\]$/, '$1'))
}

function hostOf(text: string): URL | undefined {
  return URL.parse(text) ?? undefined
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
