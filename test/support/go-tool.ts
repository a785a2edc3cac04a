import { execFile } from 'node:child_process'
import { access, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { withInstallLock } from './python-venv.ts'

const root = join(import.meta.dirname, '../..')
const BUILD_MS = 1_200_000

/**
 * A program in Go, built inside the project when it is first needed, which takes minutes.
 * @param module with its version
 * @returns the program's path
 * @example await goTool('versitygw', 'github.com/versity/versitygw/cmd/versitygw@v1.8.0')
 */
export async function goTool(name: string, module: string): Promise<string> {
  const folder = join(root, '.tools', `${name}-${module.slice(module.indexOf('@') + 1)}`)
  const program = join(folder, name)
  // `go install` puts the finished program in place at once.
  const isThere = () =>
    access(program).then(
      () => true,
      () => false,
    )
  if (await isThere()) return program
  await mkdir(join(root, '.tools'), { recursive: true })
  await withInstallLock(`${folder}.lock`, async () => {
    if (await isThere()) return
    await promisify(execFile)('go', ['install', module], { env: { ...process.env, GOBIN: folder }, timeout: BUILD_MS })
  })
  return program
}
