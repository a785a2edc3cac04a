/** What tells one state of a file from another without reading it. */
export interface FileIdentity {
  readonly dev: bigint
  readonly ino: bigint
  readonly size: bigint
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
}

/**
 * One text per state of a file. ctime is part of it because mtime can be set back by anybody who may write the file; two
 * writes within one tick of the file system's clock (a few milliseconds) may share it, so bytes are hashed again when used.
 */
export function identityKey({ dev, ino, size, mtimeNs, ctimeNs }: FileIdentity): string {
  return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`
}
