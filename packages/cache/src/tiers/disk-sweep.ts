import { join } from 'node:path'
import { isOtherLivingProcess } from '../living-process.ts'
import type { DiskFiles } from './disk-files.ts'

export interface FoundFile {
  readonly path: string
  readonly bytes: number
  readonly mtimeMs: number
}

export interface SweepResult {
  readonly found: readonly FoundFile[]
  /** Entries that had no business in the folder, or were left by a crash. */
  readonly removed: number
}

const PACKED = /^[0-9a-f]{64}\.qvr$/
const TEMPORARY = /^tmp-(\d+)-/

/**
 * Walks `<root>/<layout>-<dtype>/<aa>/`: lists packed files of every base model, removes temporary files of dead processes
 * and whatever else lies where packed files belong. Their content is not read; that happens at use.
 */
export async function sweepFolder(root: string, files: DiskFiles): Promise<SweepResult> {
  const found: FoundFile[] = []
  let removed = 0
  for (const home of await foldersIn(root, files)) {
    for (const shelf of await foldersIn(home, files)) {
      for (const name of await files.readdir(shelf)) {
        const path = join(shelf, name)
        const kept = await judge(path, name, files)
        if (kept === 'remove') {
          await files.rm(path, { recursive: true, force: true })
          removed += 1
        } else if (kept !== 'leave') found.push(kept)
      }
    }
  }
  return { found, removed }
}

async function judge(path: string, name: string, files: DiskFiles): Promise<FoundFile | 'remove' | 'leave'> {
  const owner = TEMPORARY.exec(name)?.[1]
  if (owner !== undefined) return isOtherLivingProcess(Number(owner)) ? 'leave' : 'remove'
  const stats = await files.lstat(path).catch(() => undefined)
  // Removed by another worker meanwhile.
  if (stats === undefined) return 'leave'
  if (!PACKED.test(name) || !stats.isFile()) return 'remove'
  return { path, bytes: stats.size, mtimeMs: stats.mtimeMs }
}

async function foldersIn(folder: string, files: DiskFiles): Promise<readonly string[]> {
  const entries = await files.readdir(folder, { withFileTypes: true })
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(folder, name))
}
