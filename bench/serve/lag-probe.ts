/**
 * Loaded into a process before its own program (`--import`): writes how late the event loop is, one number in milliseconds a line,
 * to a file of the process's own in the folder that its own address names: `lag-probe.ts?folder=…`.
 */
import { appendFileSync } from 'node:fs'
import path from 'node:path'

const TICK_MS = 5
const WRITE_MS = 500
const folder = new URL(import.meta.url).searchParams.get('folder')

if (folder !== null) {
  const file = path.join(folder, `${process.pid}.txt`)
  let lags: string[] = []
  let dueAtMs = performance.now() + TICK_MS
  let writtenAtMs = performance.now()
  const tick = () => {
    const nowMs = performance.now()
    lags.push(Math.max(0, nowMs - dueAtMs).toFixed(2))
    if (nowMs - writtenAtMs > WRITE_MS) {
      appendFileSync(file, `${lags.join('\n')}\n`)
      lags = []
      writtenAtMs = nowMs
    }
    dueAtMs = performance.now() + TICK_MS
    setTimeout(tick, TICK_MS).unref()
  }
  setTimeout(tick, TICK_MS).unref()
}
