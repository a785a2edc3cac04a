/** The drop folder, seen from administration: a bucket's events, and the page about the queue. */
import type { HttpBindings } from '@hono/node-server'
import { serveStatic } from '@hono/node-server/serve-static'
import { ServingError } from '@quiver/protocol'
import type { Queue } from 'bullmq'
import { Hono } from 'hono'
import type { CallerVariables } from '../../auth/guard.ts'
import type { AdminHandler } from './admin-deps.ts'
import { adminErrorResponse } from './admin-envelope.ts'

const BOARD = '/admin/queues'

/** What administration can ask of the drop folder. */
export interface DropAdmin {
  /**
   * Looks at the folders that an event is about.
   * @param event as a bucket sends it
   * @returns their names
   * @throws ServingError `invalid_request` for what is no event
   */
  notice(event: unknown): readonly string[] | Promise<readonly string[]>
  /** Where jobs wait in Redis; undefined while that cannot be reached, absent where there is none. */
  readonly queue?: () => Queue | undefined
}

/** Answers at once: what comes of it is told by `GET /admin/jobs`. */
export const noticeEvent: AdminHandler = async ({ drops, json, answer }) => {
  if (drops === undefined) throw new ServingError('not_found', 'This server has no drop folder')
  return answer({ looking_at: await drops.notice(await json()) })
}

/** The page about the queue, which shows and changes nothing: what is to be done again is found again in the folder. */
export function addQueueBoard(
  app: Hono<{ readonly Bindings: HttpBindings; readonly Variables: CallerVariables }>,
  { drops, newId }: { readonly drops: DropAdmin | undefined; readonly newId: () => string },
): void {
  let board: Promise<Hono> | undefined
  app.all(`${BOARD}/*`, async (c) => {
    if (drops?.queue === undefined) return await c.notFound()
    const queue = drops.queue()
    if (queue === undefined) {
      return adminErrorResponse(
        new ServingError('source_unavailable', 'The queue cannot be shown: Redis does not answer'),
        newId(),
      )
    }
    board ??= openBoard(queue)
    return await (await board).fetch(c.req.raw)
  })
}

/** Loaded when it is first asked for: most servers never are. */
async function openBoard(queue: Queue): Promise<Hono> {
  const [{ createBullBoard }, { BullMQAdapter }, { HonoAdapter }] = await Promise.all([
    import('@bull-board/api'),
    import('@bull-board/api/bullMQAdapter'),
    import('@bull-board/hono'),
  ])
  const serverAdapter = new HonoAdapter(serveStatic).setBasePath(BOARD)
  createBullBoard({
    queues: [new BullMQAdapter(queue, { readOnlyMode: true, displayName: 'Drop folder', allowRetries: false })],
    serverAdapter,
    options: { uiConfig: { boardTitle: 'Quiver', hideRedisDetails: true } },
  })
  return new Hono({ strict: false }).route(BOARD, serverAdapter.registerPlugin())
}
