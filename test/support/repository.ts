/** The project's own files, for tests of the project itself. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export const repositoryRoot: string = join(import.meta.dirname, '../..')

/** Folders that are never part of the project, where git cannot be asked. */
const left = new Set(['.git', 'node_modules', '.turbo', 'dist', '.venv', 'quiver-data', 'coverage', '__pycache__'])

/** Every file of the project that is there, by its path from the root, `/` between the parts. */
export function projectFiles(): readonly string[] {
  try {
    const listed = execFileSync('git', ['ls-files', '-z'], {
      cwd: repositoryRoot,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    return listed.split('\0').filter((file) => file !== '' && existsSync(join(repositoryRoot, file)))
  } catch {
    // No git on this machine, or a copy without its history.
    return filesIn('')
  }
}

function filesIn(folder: string): readonly string[] {
  return readdirSync(join(repositoryRoot, folder), { withFileTypes: true }).flatMap((entry) => {
    if (left.has(entry.name)) return []
    const path = `${folder}${entry.name}`
    return entry.isDirectory() ? filesIn(`${path}/`) : [path]
  })
}

export function isProjectPath(path: string): boolean {
  return existsSync(join(repositoryRoot, path))
}

export function readProjectText(path: string): string {
  return readFileSync(join(repositoryRoot, path), 'utf8')
}

/** A file's bytes as characters, one for each byte, so that binary files can be searched too. */
export function readProjectBytes(path: string): string {
  return readFileSync(join(repositoryRoot, path), 'latin1')
}

/** TypeScript without its comments, which may show code that is not run. */
export function withoutComments(source: string): string {
  return source.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/^\s*\/\/.*$/gm, '')
}

/** What a file imports, statically or not. */
export function importsOf(source: string): readonly string[] {
  const found = withoutComments(source).matchAll(/(?:\bfrom\s+|\bimport\s+|\bimport\(\s*)'([^']+)'/g)
  return Array.from(found, ([, specifier]) => specifier ?? '')
}

/** Rows of the tables of a Markdown text whose header begins with these cells. */
export function tableRows(markdown: string, ...header: readonly string[]): readonly (readonly string[])[] {
  const rows: (readonly string[])[] = []
  let isInside = false
  for (const line of markdown.split('\n')) {
    if (!line.startsWith('|')) isInside = false
    else {
      const cells = line
        .replace(/^\|\s*|\s*\|\s*$/g, '')
        .split(/\s*(?<!\\)\|\s*/)
        .map((cell) => cell.replaceAll('\\|', '|'))
      if (header.every((cell, at) => cells[at] === cell)) isInside = true
      else if (isInside && !/^-+$/.test(cells[0] ?? '')) rows.push(cells)
    }
  }
  return rows
}

/** The text of a cell that holds nothing but one code span; otherwise undefined. */
export function codeSpan(cell: string | undefined): string | undefined {
  return /^`([^`]+)`$/.exec(cell ?? '')?.[1]
}
