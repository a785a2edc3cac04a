/**
 * Lets one process at a time download a model, among all that share the folder. The lock is a file that names its owner and
 * whose modification time the owner renews; it is stale when the owner is dead, or, where that cannot be known (another
 * machine or container), when it was not renewed for a while. A lock that is taken away wrongly costs a second download
 * and nothing else: every attempt writes files of its own and only verified ones get their final name.
 */
import { link, readFile, rename, stat, unlink, utimes, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { sleep } from '@quiver/cache/hub'
import { z } from 'zod'
import type { Timers } from '../timers.ts'

const POLL_MS = 250
const RENEW_MS = 10_000
const STALE_MS = 60_000

export interface LockDeps {
  readonly timers: Timers
  readonly signal: AbortSignal
  /** Different at every call, in every process. */
  readonly uniqueId: () => string
}

/** `file`: the owner's own name for the lock, in the same folder. */
const ownerSchema = z.object({ pid: z.int().positive(), host: z.string(), file: z.string().regex(/^[\w.-]+$/) })
type Owner = z.infer<typeof ownerSchema>

/**
 * Runs `work` while holding the lock file `path`, whose folder exists.
 * @param onWait called once when another process has the lock
 * @throws ServingError `client_closed` when `signal` is aborted while waiting; whatever `work` throws
 */
export async function withDownloadLock<T>(
  path: string,
  deps: LockDeps & { readonly onWait: () => void },
  work: () => Promise<T>,
): Promise<T> {
  const own = `${path}.${deps.uniqueId()}`
  await writeFile(own, JSON.stringify({ pid: process.pid, host: hostname(), file: basename(own) } satisfies Owner), {
    flag: 'wx',
  })
  try {
    await acquire(path, own, deps)
  } catch (error) {
    await unlink(own)
    throw error
  }
  const stopRenewing = renew(own, deps.timers)
  try {
    return await work()
  } finally {
    stopRenewing()
    await release(path, own)
  }
}

async function acquire(path: string, own: string, deps: LockDeps & { readonly onWait: () => void }): Promise<void> {
  let waitedMs = 0
  let unchangedMs = 0
  let lastRenewal = 0
  while (!(await linkOnce(own, path))) {
    // The inode before the owner: what is taken away must be the very lock that was judged.
    const seen = await stat(path).catch(() => undefined)
    const owner = await readOwner(path)
    const stale = isDead(owner) || unchangedMs >= STALE_MS
    if (seen !== undefined && stale && (await takeAway(path, { aside: `${own}.stale`, inode: seen.ino, owner }))) continue
    if (waitedMs === 0) deps.onWait()
    const renewal = seen?.mtimeMs ?? 0
    unchangedMs = renewal === lastRenewal ? unchangedMs + POLL_MS : 0
    lastRenewal = renewal
    await sleep(deps.timers, POLL_MS, deps.signal)
    waitedMs += POLL_MS
  }
}

/** A hard link appears with its content at once and fails where the name is taken. */
async function linkOnce(own: string, path: string): Promise<boolean> {
  try {
    await link(own, path)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}

/** @returns undefined when the lock is gone meanwhile or is none that this code wrote: the missing renewal will tell */
async function readOwner(path: string): Promise<Owner | undefined> {
  try {
    return ownerSchema.parse(JSON.parse(await readFile(path, 'utf8')))
  } catch {
    return undefined
  }
}

/** Processes of other machines cannot be asked. */
function isDead(owner: Owner | undefined): boolean {
  if (owner === undefined || owner.host !== hostname()) return false
  try {
    process.kill(owner.pid, 0)
    return false
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ESRCH'
  }
}

/** Moves the lock aside before removing it, and puts it back if another process replaced it in between. */
async function takeAway(path: string, lock: { aside: string; inode: number; owner: Owner | undefined }): Promise<boolean> {
  const { aside, inode, owner } = lock
  try {
    await rename(path, aside)
    if ((await stat(aside)).ino !== inode) {
      await rename(aside, path)
      return false
    }
    await unlink(aside)
    if (owner !== undefined) await unlink(join(dirname(path), owner.file)).catch(() => undefined)
    return true
  } catch {
    return false // Another process released or took it first; the next look will tell.
  }
}

/** The lock is a second name of `own`, so renewing the one renews the other. */
function renew(own: string, timers: Timers): () => void {
  let cancel = () => {}
  let renewals = 0
  const arm = () => {
    cancel = timers.after(RENEW_MS, () => {
      renewals += 1 // As the file's time: waiters look whether it changes, not what time it is.
      utimes(own, renewals, renewals).catch(() => undefined)
      arm()
    })
  }
  arm()
  return () => cancel()
}

/** Removes the lock only if it is still this process's. */
async function release(path: string, own: string): Promise<void> {
  const [held, mine] = await Promise.all([stat(path).catch(() => undefined), stat(own).catch(() => undefined)])
  if (held !== undefined && held.ino === mine?.ino) await unlink(path).catch(() => undefined)
  await unlink(own).catch(() => undefined)
}
