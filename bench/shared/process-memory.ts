import { readFile } from 'node:fs/promises'

/** In bytes. */
export interface ProcessMemory {
  /** Everything resident, pages of files included. */
  readonly resident: number
  /** What belongs to the process alone. */
  readonly anonymous: number
}

/** Undefined where there is no /proc. */
export async function readProcessMemory(pid: number): Promise<ProcessMemory | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => undefined)
  return status === undefined ? undefined : parseStatus(status)
}

/** @param status the text of /proc/<pid>/status */
export function parseStatus(status: string): ProcessMemory | undefined {
  const bytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? Number.NaN) * 1024
  const memory = { resident: bytes('VmRSS'), anonymous: bytes('RssAnon') }
  return Number.isFinite(memory.resident) && Number.isFinite(memory.anonymous) ? memory : undefined
}

/** Process ids of a process's children; none where there is no /proc. */
export async function childrenOf(pid: number): Promise<number[]> {
  const listed = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')
  return listed.split(' ').filter(Boolean).map(Number)
}
