/**
 * Which folders a client may name. A path is first judged as text, so that nothing on the disk is touched for a path that
 * lies outside of every root; then the folder's real path must lie below a root's real path, so that a symbolic link does
 * not lead out. Messages repeat what the client said and never tell a path of the server.
 */
import { realpath } from 'node:fs/promises'
import { isAbsolute, join, normalize, sep } from 'node:path'
import { ServingError } from '@quiver/protocol'

const MAX_PATH_CHARACTERS = 1_024
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for.
const CONTROL = /[\u0000-\u001f\u007f]/

export class Jail {
  readonly #roots: readonly string[]

  /** @param roots absolute paths; a client's relative path is tried below each, in order */
  constructor(roots: readonly string[]) {
    this.#roots = roots.map((root) => withoutTrailing(normalize(root)))
  }

  /**
   * The real path of the folder that a client named.
   * @throws ServingError `invalid_request` (not a path), `forbidden` (outside of the roots), `adapter_not_found`
   */
  async enter(said: string): Promise<string> {
    checkPath(said)
    if (this.#roots.length === 0) {
      throw new ServingError('forbidden', 'local adapters are switched off: name their folders in QUIVER_LOCAL_ROOTS')
    }
    const roots = await this.#realRoots()
    const candidates = isAbsolute(said) ? this.#absolute(said, roots) : roots.map(({ real }) => join(real, said))
    if (candidates.length === 0) throw outside(said)
    for (const candidate of candidates) {
      const real = await resolveReal(candidate)
      if (real === undefined) continue
      if (!roots.some((root) => isBelow(real, root.real))) throw outside(said)
      return real
    }
    throw new ServingError('adapter_not_found', `there is no adapter at ${shown(said)}`)
  }

  /** Whether a real path is below a root. */
  async holds(real: string): Promise<boolean> {
    return (await this.#realRoots()).some((root) => isBelow(real, root.real))
  }

  #absolute(said: string, roots: readonly { root: string; real: string }[]): readonly string[] {
    const path = withoutTrailing(normalize(said))
    return roots.some(({ root, real }) => isBelow(path, root) || isBelow(path, real)) ? [path] : []
  }

  /** Asked anew each time: a root may be made, or moved, while the server runs. A missing root holds nothing. */
  async #realRoots(): Promise<{ root: string; real: string }[]> {
    const roots = await Promise.all(this.#roots.map(async (root) => ({ root, real: await resolveReal(root) })))
    return roots.flatMap(({ root, real }) => (real === undefined ? [] : [{ root, real }]))
  }
}

/** A path as a message repeats it. */
export function shown(said: string): string {
  return JSON.stringify(said.length > 200 ? `${said.slice(0, 200)}…` : said)
}

function checkPath(said: string): void {
  const wrong =
    said === '' ||
    said.length > MAX_PATH_CHARACTERS ||
    CONTROL.test(said) ||
    said.includes('\\') ||
    said.split('/').includes('..')
  if (wrong)
    throw new ServingError(
      'invalid_request',
      `${shown(said)} is not a path of an adapter: write it without "..", "\\" and control characters`,
    )
}

async function resolveReal(path: string): Promise<string | undefined> {
  try {
    return await realpath(path)
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP' || code === 'ENAMETOOLONG') return undefined
    throw new ServingError('source_unavailable', 'a local adapter cannot be read', { reason: String(code) }, { cause: thrown })
  }
}

/** The root itself counts: it may be the folder of one adapter. */
function isBelow(path: string, root: string): boolean {
  return path === root || path.startsWith(root === sep ? sep : root + sep)
}

function withoutTrailing(path: string): string {
  return path.length > 1 && path.endsWith(sep) ? path.slice(0, -1) : path
}

function outside(said: string): ServingError {
  return new ServingError('forbidden', `${shown(said)} is outside of the folders from which local adapters may be loaded`)
}
