import { isIP } from 'node:net'

/** Whether only this machine reaches what listens there. Of names only `localhost` is believed: `127.example` may be anywhere. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}
