/** Whether another process of this id lives. Our own id on a file of an earlier time means an earlier process: at start we have written none. */
export function isOtherLivingProcess(pid: number): boolean {
  if (pid === process.pid || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (thrown) {
    return !(thrown instanceof Error && 'code' in thrown && thrown.code === 'ESRCH')
  }
}
