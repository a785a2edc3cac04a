/** A model repository at a branch, tag or commit. */
export interface HubReference {
  /** `org/name` */
  readonly repo: string
  readonly revision: string
}

const COMMIT = /^[0-9a-f]{40}$/

export function isCommit(revision: string): boolean {
  return COMMIT.test(revision)
}

/** `org/name` or `org/name@revision`. @returns undefined when `text` has not that form */
export function parseHubReference(text: string): HubReference | undefined {
  const parts = /^([A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95})(?:@([\w][\w./-]{0,127}))?$/.exec(text)
  const repo = parts?.[1]
  const revision = parts?.[2] ?? 'main'
  if (repo === undefined || repo.includes('..') || repo.includes('--') || revision.includes('..')) return undefined
  return { repo, revision }
}
