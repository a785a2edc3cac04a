import { link, readFile, rename, stat, unlink, writeFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { ServingError } from '@quiver/protocol'

const RETRY_MS = 5
const ATTEMPTS = 1_000

/**
 * Runs `work` while this process alone holds the lock file, among all processes of this machine. The file holds the
 * owner's process id: a lock whose owner is dead is taken over. Work under it takes milliseconds.
 * @throws ServingError `source_unavailable` when the lock stays taken for about five seconds
 */
export async function withFileLock(path: string, uniqueId: () => string, work: () => Promise<void>): Promise<void> {
  await acquire(path, uniqueId)
  try {
    await work()
  } finally {
    await unlink(path).catch(() => undefined)
  }
}

async function acquire(path: string, uniqueId: () => string): Promise<void> {
  const own = `${path}-${uniqueId()}`
  // Linked into place with its content, so that nobody ever sees a lock without an owner.
  await writeFile(own, String(process.pid), { flag: 'wx', mode: 0o600 })
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (await linkOnce(own, path)) return
      await takeOverIfDead(path, `${own}-dead`)
      await delay(RETRY_MS)
    }
  } finally {
    await unlink(own).catch(() => undefined)
  }
  throw new ServingError(
    'source_unavailable',
    'an object of the store stays locked: remove the lock file if no process uses it',
    { path },
  )
}

async function linkOnce(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === 'EEXIST') return false
    throw thrown
  }
}

/** Moves a dead owner's lock aside. The inode is compared after the move, since another process may have been faster. */
async function takeOverIfDead(path: string, aside: string): Promise<void> {
  try {
    const seen = await stat(path)
    if (isAlive(Number(await readFile(path, 'latin1')))) return
    await rename(path, aside)
    if ((await stat(aside)).ino === seen.ino) await unlink(aside)
    else await rename(aside, path)
  } catch {
    // Somebody else released or moved it first: the next attempt sees what is there now.
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (thrown) {
    return !(thrown instanceof Error && 'code' in thrown && thrown.code === 'ESRCH')
  }
}
