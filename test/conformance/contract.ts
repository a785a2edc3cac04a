/** Reads contract.md: what is promised, row by row, and the checks that hold the server to it. */
import { readFileSync } from 'node:fs'

export interface ContractRow {
  readonly section: string
  readonly promise: string
  readonly checks: readonly string[]
}

/** @param text headings are sections, list items are rows, items below them are names of checks */
export function readContract(text = readFileSync(new URL('contract.md', import.meta.url), 'utf8')): readonly ContractRow[] {
  const rows: { section: string; promise: string; checks: string[] }[] = []
  let section = ''
  for (const line of text.split('\n')) {
    const [, heading] = /^## (.+)$/.exec(line) ?? []
    const [, promise] = /^- (.+)$/.exec(line) ?? []
    const [, check] = /^ {2}- (.+)$/.exec(line) ?? []
    if (heading !== undefined) section = heading
    else if (promise !== undefined) rows.push({ section, promise, checks: [] })
    else if (check !== undefined) rows.at(-1)?.checks.push(check)
  }
  return rows
}

/** `lorax` of `lorax: the seed comes back`. */
export function clientOf(check: string): string {
  return check.slice(0, check.indexOf(':'))
}
