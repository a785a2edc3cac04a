import type * as fs from 'node:fs/promises'

/** The file operations of the disk tier; `node:fs/promises` has them. A test can put a full or failing disk in their place. */
export type DiskFiles = Pick<typeof fs, 'access' | 'lstat' | 'mkdir' | 'open' | 'readdir' | 'rename' | 'rm' | 'utimes'>
