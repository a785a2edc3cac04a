/**
 * Where results lie: every run's in bench/results, which git ignores; in bench/results/reference one per bench, which
 * docs/benchmarks.md is made from.
 */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { ServingError } from '@quiver/protocol'
import { type BenchResult, benchResultSchema } from './result.ts'

export class ResultFiles {
  readonly #folder: string
  readonly #reference: string

  /** @param folder bench/results */
  constructor(folder: string) {
    this.#folder = folder
    this.#reference = path.join(folder, 'reference')
  }

  /** @returns the file's path */
  async write(result: BenchResult): Promise<string> {
    return await writeJson(path.join(this.#folder, fileName(result)), result)
  }

  async writeReference(result: BenchResult): Promise<string> {
    return await writeJson(path.join(this.#reference, `${result.bench}.json`), result)
  }

  /** By bench. @throws ServingError `internal` naming a file that is not a result */
  async readReferences(): Promise<Map<string, BenchResult>> {
    const names = (await readdir(this.#reference).catch(() => [])).filter((name) => name.endsWith('.json')).toSorted()
    const results = new Map<string, BenchResult>()
    for (const name of names) {
      const result = await readResult(path.join(this.#reference, name))
      results.set(result.bench, result)
    }
    return results
  }
}

/** `engine-20261122T013000Z-1a2b3c4d5e6f.json`; `-quick` and `-part` where it is not the whole. */
export function fileName({ bench, startedAt, commit, quick, only }: BenchResult): string {
  const time = startedAt.replace(/\.\d+/, '').replaceAll(/[-:]/g, '')
  return `${bench}-${time}-${commit}${quick ? '-quick' : ''}${only === undefined ? '' : '-part'}.json`
}

async function readResult(file: string): Promise<BenchResult> {
  try {
    return benchResultSchema.parse(JSON.parse(await readFile(file, 'utf8')))
  } catch (cause) {
    throw new ServingError('internal', `${file} is not a result of this version's benches: run the bench again`, {}, { cause })
  }
}

async function writeJson(file: string, result: BenchResult): Promise<string> {
  await mkdir(path.dirname(file), { recursive: true })
  await writeFile(file, `${JSON.stringify(benchResultSchema.parse(result), undefined, 2)}\n`)
  return file
}
