import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isSealedFolder } from './folder-seal.ts'

/** Prefix of folders being built, followed by the builder's process id. */
const BUILDING = '.building-'

export interface BuiltFolder {
  /** Where all builds are, each in a folder of its own. */
  readonly cacheDir: string
  readonly name: string
  /** Whether another folder of the cache was made by an older version and can go. */
  isOutdated(name: string): boolean
  /** Fills an empty folder and seals it (folder-seal.ts). */
  build(folder: string): Promise<void>
}

/**
 * The path of a folder that is built on first use and again when what is there is damaged. It is built under another name and
 * gets its own only when it is complete and on disk; of two builders the second finds the first's and uses it. Outdated
 * folders are removed, and what builders left that are not running any more.
 */
export async function builtFolder({ cacheDir, name, isOutdated, build }: BuiltFolder): Promise<string> {
  const folder = join(cacheDir, name)
  if (await isSealedFolder(folder)) return folder
  await mkdir(cacheDir, { recursive: true })
  await sweep(cacheDir, isOutdated)
  const building = await mkdtemp(join(cacheDir, `${BUILDING}${process.pid}-`))
  try {
    await build(building)
    await putInPlace(building, folder)
    return folder
  } finally {
    await rm(building, { recursive: true, force: true })
  }
}

/** Gives a finished folder its name. What stands there is another builder's, and as good, or damaged, and goes. */
async function putInPlace(building: string, folder: string): Promise<void> {
  try {
    await rename(building, folder)
  } catch (error) {
    if (await isSealedFolder(folder)) return
    if (!isNotEmpty(error)) throw error
    await rm(folder, { recursive: true, force: true })
    await rename(building, folder)
  }
}

function isNotEmpty(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOTEMPTY' || code === 'EEXIST'
}

async function sweep(cacheDir: string, isOutdated: (name: string) => boolean): Promise<void> {
  for (const name of await readdir(cacheDir)) {
    if (isAbandoned(name) || isOutdated(name)) await rm(join(cacheDir, name), { recursive: true, force: true })
  }
}

function isAbandoned(name: string): boolean {
  const pid = name.startsWith(BUILDING) ? Number.parseInt(name.slice(BUILDING.length), 10) : Number.NaN
  return Number.isInteger(pid) && !isRunning(pid)
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: it runs as somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
