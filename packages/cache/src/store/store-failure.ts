import { ServingError } from '@quiver/protocol'

/** Says in the words of ObjectStore what an operating system's error means for a key. */
export function storeFailure(thrown: unknown, key: string): ServingError {
  if (thrown instanceof ServingError) return thrown
  if (thrown instanceof DOMException && thrown.name === 'AbortError') {
    return new ServingError('client_closed', `reading object ${key} was cancelled`, {}, { cause: thrown })
  }
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'unknown'
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
    // ELOOP: a symbolic link where O_NOFOLLOW forbids one; ENXIO: a FIFO or socket.
    case 'ELOOP':
    case 'ENXIO':
      return new ServingError('not_found', `the store has no object ${key}`, {}, { cause: thrown })
    case 'EEXIST':
      return new ServingError('conflict', `object ${key} exists already`, {}, { cause: thrown })
    case 'EISDIR':
      return new ServingError('conflict', `key ${key} is taken by a folder`, {}, { cause: thrown })
    default:
      return new ServingError('source_unavailable', `the store failed on object ${key}`, { reason: code }, { cause: thrown })
  }
}
