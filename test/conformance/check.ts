/** One promise of the contract, kept or not by a running server, and the answers that curl gets from it. */
import { execFile } from 'node:child_process'

export interface Check {
  /** The client, a colon, and what it sees. In the table of contract.md by the same words. */
  readonly name: string
  /** Fails by rejecting. */
  readonly run: () => Promise<unknown>
}

/** What came of a check: undefined when it held, else why not. */
export type Outcome = string | undefined

export async function outcomeOf(check: Check): Promise<Outcome> {
  try {
    await check.run()
    return undefined
  } catch (error) {
    return error instanceof Error ? (error.stack ?? error.message) : String(error)
  }
}

/** Runs all, a few at a time. @param told called with each as it ends */
export async function runChecks(
  checks: readonly Check[],
  { atOnce, told }: { readonly atOnce: number; readonly told: (name: string, outcome: Outcome) => void },
): Promise<void> {
  const left = checks.values()
  const lane = async () => {
    for (const check of left) told(check.name, await outcomeOf(check))
  }
  await Promise.all(Array.from({ length: atOnce }, lane))
}

export interface Curled {
  readonly status: number
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
  readonly text: string
  /** Undefined when the body is no JSON. */
  readonly json: unknown
}

export interface CurlRequest {
  /** Sent as JSON with its content type; a string goes as it is. */
  readonly body?: unknown
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  /** Without `content-type: application/json`. */
  readonly untyped?: true
}

export type Curl = (path: string, request?: CurlRequest) => Promise<Curled>

/** @returns what asks the server at `url` by the curl of this machine */
export function curlAt(url: string): Curl {
  return async (path, { body, method, headers = {}, untyped } = {}) => {
    const given = body === undefined ? [] : ['--data-binary', '@-']
    const typed: Record<string, string> = body === undefined || untyped === true ? {} : { 'content-type': 'application/json' }
    // Without `Expect`, which curl sends with long bodies, and whose answer comes before the answer.
    const all = { Expect: '', ...(untyped === true ? { 'content-type': '' } : {}), ...typed, ...headers }
    const named = Object.entries(all).flatMap(([name, value]) => ['-H', value === '' ? `${name}:` : `${name}: ${value}`])
    const verb = method === undefined ? [] : method === 'HEAD' ? ['-I'] : ['-X', method]
    const output = await new Promise<string>((resolve, reject) => {
      const child = execFile(
        'curl',
        ['-sS', '-i', '--no-buffer', ...verb, ...named, ...given, url + path],
        { maxBuffer: 64 * 1024 * 1024, encoding: 'utf8' },
        (error, stdout) => (error === null ? resolve(stdout) : reject(error)),
      )
      child.stdin?.on('error', () => {})
      child.stdin?.end(body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body))
    })
    return answerOf(output)
  }
}

function answerOf(output: string): Curled {
  const end = output.indexOf('\r\n\r\n')
  const [first = '', ...lines] = output.slice(0, end).split('\r\n')
  const headers = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
  )
  const text = output.slice(end + 4)
  return { status: Number(first.split(' ')[1]), headers, text, json: jsonOf(text) }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** What stands after `data:` in each event of a stream, with its white space. */
export function dataOf(text: string): string[] {
  return text
    .split('\n\n')
    .filter((block) => block.startsWith('data:'))
    .map((block) => block.slice('data:'.length))
}
