/** A Python environment inside the project for what tests need of PyPI, made when it is first needed. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')
const LOCK_STALE_MS = 300_000

/**
 * @param requirements a file of pinned requirements; the environment is named by its content
 * @returns the environment's Python
 * @example const python = await pythonWith('test/conformance/requirements.txt')
 */
export async function pythonWith(requirements: string): Promise<string> {
  const file = join(root, requirements)
  const name = createHash('sha256')
    .update(await readFile(file))
    .digest('hex')
    .slice(0, 16)
  const folder = join(root, '.venv', name)
  const python = join(folder, 'bin/python')
  const isReady = () =>
    readFile(join(folder, 'ready'), 'utf8').then(
      () => true,
      () => false,
    )
  if (await isReady()) return python
  await mkdir(join(root, '.venv'), { recursive: true })
  await withInstallLock(join(root, '.venv', `${name}.lock`), async () => {
    if (await isReady()) return
    // Made in its final place, since an environment has its own path inside; complete only with the mark.
    await rm(folder, { recursive: true, force: true })
    await run('python3', ['-m', 'venv', folder])
    await run(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--requirement', file], {
      timeout: 280_000,
    })
    await writeFile(join(folder, 'ready.new'), '')
    await rename(join(folder, 'ready.new'), join(folder, 'ready'))
  })
  return python
}

/** Test files run at once; one of them installs, the others wait. A lock whose holder has died is broken. */
export async function withInstallLock(lock: string, action: () => Promise<void>): Promise<void> {
  for (const begun = performance.now(); ; ) {
    try {
      await mkdir(lock)
      break
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      const holder = Number(await readFile(join(lock, 'pid'), 'utf8').catch(() => 'NaN'))
      const isDead = !Number.isNaN(holder) && !isRunning(holder)
      // A holder that has not written its name yet may have died before it could.
      const isNobodys = Number.isNaN(holder) && performance.now() - begun > LOCK_STALE_MS
      if (isDead || isNobodys) await rm(lock, { recursive: true, force: true })
      else await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
  try {
    await writeFile(join(lock, 'pid'), String(process.pid))
    await action()
  } finally {
    await rm(lock, { recursive: true, force: true })
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
