import { ServingError, toServingError } from '@quiver/protocol'

/** What an operating system says of a disk that is full or a folder that this user may not write to. */
const diskCodes = ['EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EDQUOT', 'ENOTDIR']

/**
 * What kept a worker from starting, for the person who started it. A cache folder that cannot be used is theirs to mend, not a fault.
 * @param cacheFolder where the worker keeps models, graphs and packed adapters
 */
export function startFailure(thrown: unknown, cacheFolder: string): ServingError {
  const error = toServingError(thrown)
  const found = [thrown, error.cause].find(isSystemError)
  if (error.code !== 'internal' || found === undefined || !diskCodes.includes(found.code)) return error
  if (found.path?.startsWith(cacheFolder) === false) return error
  return new ServingError(
    'source_unavailable',
    `the cache folder ${cacheFolder} cannot be used (${found.code}): choose another with --cache or QUIVER_CACHE, or make room and grant rights there`,
    {},
    { cause: thrown },
  )
}

function isSystemError(thrown: unknown): thrown is Error & { readonly code: string; readonly path?: string } {
  return thrown instanceof Error && 'code' in thrown && 'syscall' in thrown && typeof thrown.code === 'string'
}
