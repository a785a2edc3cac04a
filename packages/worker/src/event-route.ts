import type { ServerResponse } from 'node:http'
import { limits, type WorkerEvent } from '@quiver/protocol'
import type { EventFeed } from './event-feed.ts'

/**
 * Answers `GET /v1/events`: lines of JSON for as long as the gateway listens, empty ones as heartbeats. A gateway that falls behind
 * by more than the bound is cut off and begins again with a snapshot: it would place requests by what is long past.
 */
export function streamEvents(feed: EventFeed, response: ServerResponse): void {
  // A write to a socket that has just gone is an error event; `close` follows and says all there is to say.
  response.on('error', () => {})
  response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' })
  const write = (line: string): void => {
    if (response.destroyed) return
    response.write(line)
    if (response.writableLength > limits.eventsBufferBytes) response.destroy()
  }
  const leave = feed.join({
    event: (event: WorkerEvent) => write(`${JSON.stringify(event)}\n`),
    heartbeat: () => write('\n'),
    end: () => response.end(),
  })
  response.once('close', leave)
}
