/** Where figures were taken: without this they mean nothing. */
import { readFile } from 'node:fs/promises'
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os'
import { z } from 'zod'

export const machineSchema = z.object({
  cpu: z.string(),
  /** Processors that this process may use. */
  processors: z.int().positive(),
  /** What of the instruction set matters for speed, in the processor's words. */
  flags: z.string(),
  memoryBytes: z.int().positive(),
  system: z.string(),
  kernel: z.string(),
  /** Of the last minute, before the measuring began: far above 0 means that somebody else was at work. */
  loadAverage: z.number(),
  /** Share of the measuring's time in which the hypervisor gave the processors to other guests, in percent. */
  stealPercent: z.number().optional(),
})
export type Machine = z.infer<typeof machineSchema>

const flagsThatMatter =
  /^(f16c|fma|avx2|avx_vnni|avx512(f|bw|vl|_vnni|_bf16|_fp16)|amx_(int8|bf16|tile)|asimd|asimdhp|asimddp|i8mm|bf16|sve2?)$/

/** Describes the machine as it is now; the result's `finish` adds what can only be said afterwards. */
export async function describeMachine(): Promise<{ finish(): Promise<Machine> }> {
  const [loadAverage = 0] = loadavg()
  const before = await processorTimes()
  const [first] = cpus()
  const known = {
    cpu: first?.model.trim() ?? 'unknown',
    processors: availableParallelism(),
    flags: relevantFlags(await readFile('/proc/cpuinfo', 'utf8').catch(() => '')),
    memoryBytes: totalmem(),
    system: `${process.platform} ${process.arch}`,
    kernel: release(),
    loadAverage: rounded(loadAverage),
  }
  return {
    async finish() {
      const after = await processorTimes()
      if (before === undefined || after === undefined) return known
      const total = after.total - before.total
      return { ...known, stealPercent: total === 0 ? 0 : rounded((100 * (after.steal - before.steal)) / total) }
    },
  }
}

/** @param cpuinfo the text of /proc/cpuinfo */
export function relevantFlags(cpuinfo: string): string {
  const line = /^(?:flags|Features)\s*:(.*)$/m.exec(cpuinfo)?.[1] ?? ''
  return line
    .split(/\s+/)
    .filter((flag) => flagsThatMatter.test(flag))
    .join(' ')
}

async function processorTimes(): Promise<{ total: number; steal: number } | undefined> {
  const stat = await readFile('/proc/stat', 'utf8').catch(() => '')
  // user nice system idle iowait irq softirq steal; what follows is contained in these.
  const times = /^cpu +(.*)$/m.exec(stat)?.[1]?.split(' ').slice(0, 8).map(Number)
  if (times === undefined) return undefined
  return { total: times.reduce((sum, time) => sum + time, 0), steal: times[7] ?? 0 }
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100
}
