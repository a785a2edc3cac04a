import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'

/** Whether a process still does anything: one that has ended but was not yet waited for does not. */
export async function isAlive(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return !/^\d+ \(.*\) Z/.test(stat)
}

/** Resolves when the process has ended; @throws Error after `timeoutMs` */
export async function whenGone(pid: number, timeoutMs: number): Promise<void> {
  const until = performance.now() + timeoutMs
  while (await isAlive(pid)) {
    if (performance.now() > until) throw new Error(`process ${pid} is still there after ${timeoutMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Process ids of a process's children. */
export async function childrenOf(pid: number): Promise<number[]> {
  const listed = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(async () => {
    const { stdout } = await promisify(execFile)('pgrep', ['-P', String(pid)]).catch(() => ({ stdout: '' }))
    return stdout
  })
  return listed.split(/\s+/).filter(Boolean).map(Number)
}

/** Process ids of its children, theirs, and so on. */
export async function descendantsOf(pid: number): Promise<number[]> {
  const children = await childrenOf(pid)
  return [...children, ...(await Promise.all(children.map(descendantsOf))).flat()]
}
