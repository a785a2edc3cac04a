/** The file that API keys are kept in: JSON, hashes only, for its owner alone to read. */
import { open, readFile, rename, unlink } from 'node:fs/promises'
import path from 'node:path'
import { withFileLock } from '@quiver/cache/store'
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { type ApiKey, apiKeySchema } from './api-key.ts'

const OWNER_ONLY = 0o600

const fileSchema = z.object({ version: z.literal(1), keys: z.array(apiKeySchema).max(10_000) })

/**
 * @param text what stands in the file
 * @throws ServingError `invalid_request` that names the file and what is wrong with it, but nothing that stands in it
 */
export function decodeKeys(text: string, file: string): readonly ApiKey[] {
  let fault = 'it is not JSON'
  try {
    const parsed = fileSchema.safeParse(JSON.parse(text))
    if (parsed.success) return parsed.data.keys
    const [issue] = parsed.error.issues
    fault = `${issue?.path.join('.') || 'it'}: ${issue?.message}`
  } catch {
    // Not JSON: SyntaxError's message would repeat some of the file.
  }
  throw new ServingError('invalid_request', `the keys file ${file} cannot be used: ${fault}`, { usage: 1 })
}

/** @throws ServingError `not_found` when there is no file, `invalid_request` when it cannot be used */
export async function readKeys(file: string): Promise<readonly ApiKey[]> {
  try {
    return decodeKeys(await readFile(file, 'utf8'), file)
  } catch (error) {
    throw error instanceof ServingError ? error : readFailure(error, file)
  }
}

/**
 * Writes what `change` makes of the keys; a file that is not there yet has none. The new file takes the old one's place whole, and two
 * writers wait for each other.
 * @param uniqueId different each time, fit for a file name
 * @throws ServingError `invalid_request` when the present file or its folder cannot be used
 */
export async function changeKeys(
  file: string,
  uniqueId: () => string,
  change: (keys: readonly ApiKey[]) => readonly ApiKey[],
): Promise<void> {
  try {
    await withFileLock(`${file}.lock`, uniqueId, async () => {
      const present = await readKeys(file).catch((error: unknown) => {
        if (error instanceof ServingError && error.code === 'not_found') return []
        throw error
      })
      await replace(file, `${JSON.stringify({ version: 1, keys: change(present) }, null, 2)}\n`, uniqueId)
    })
  } catch (error) {
    if (error instanceof ServingError) throw error
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
    const why = `the keys file ${file} cannot be written (${code}): its folder must be there and let this user write`
    throw new ServingError('invalid_request', why, { usage: 1 }, { cause: error })
  }
}

async function replace(file: string, text: string, uniqueId: () => string): Promise<void> {
  const fresh = path.join(path.dirname(file), `.${path.basename(file)}.${uniqueId()}`)
  try {
    const handle = await open(fresh, 'wx', OWNER_ONLY)
    try {
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(fresh, file)
  } catch (error) {
    await unlink(fresh).catch(() => undefined)
    throw error
  }
}

export function readFailure(error: unknown, file: string): ServingError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
  return code === 'ENOENT'
    ? new ServingError('not_found', `there is no keys file ${file}: make one with \`quiver keys create\``, { usage: 1 })
    : new ServingError('invalid_request', `the keys file ${file} cannot be used (${code})`, { usage: 1 }, { cause: error })
}
