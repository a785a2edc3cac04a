/** How an adapter of the start is written. */

export interface StartAdapter {
  /** Under which requests name it. */
  readonly id: string
  /** Where it is, when that is not the id. */
  readonly path?: string
  readonly revision?: string
}

/**
 * `id`, `id=path`, `id@revision` or `id=path@revision`, as TGI writes them. A path begins with `/`, `.` or `s3://`, or is the id of another
 * repository.
 * @returns undefined for anything else
 * @example parseStartAdapter('sql=/adapters/sql') // { id: 'sql', path: '/adapters/sql' }
 */
export function parseStartAdapter(text: string): StartAdapter | undefined {
  const [, id, place, revision] = /^([^=@\s]+)(?:=([^=@\s]+))?(?:@([^=@\s]+))?$/.exec(text) ?? []
  if (id === undefined) return undefined
  return { id, ...(place === undefined ? {} : { path: place }), ...(revision === undefined ? {} : { revision }) }
}
