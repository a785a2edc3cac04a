import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { promisify } from 'node:util'
import { z } from 'zod'

const manifestSchema = z.object({ version: z.string() })

/** Versions of what computes, by name. */
export function readVersions(): Record<string, string> {
  const require = createRequire(new URL('../../packages/worker/package.json', import.meta.url))
  const { version } = manifestSchema.parse(require('onnxruntime-node/package.json'))
  return { node: process.versions.node, onnxruntime: version }
}

/** Short name of the commit that is checked out, `+changes` where files differ from it, `unknown` without git. */
export async function readCommit(folder: string): Promise<string> {
  const git = async (...args: string[]) => (await promisify(execFile)('git', args, { cwd: folder })).stdout.trim()
  try {
    const changes = await git('status', '--porcelain', '--untracked-files=no')
    return `${await git('rev-parse', '--short=12', 'HEAD')}${changes === '' ? '' : '+changes'}`
  } catch {
    // Not a checkout, or git is not there: the figures are as good, only nobody can tell of what.
    return 'unknown'
  }
}
