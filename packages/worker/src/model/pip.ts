/** Fetches wheels by pip, which reaches what package indexes the user has set. */
import { ServingError } from '@quiver/protocol'
import type { ProcessRunner } from './process-runner.ts'
import { throwIfStopped } from './sleep.ts'

export interface PipDownload {
  /** The Python that has pip. */
  readonly python: string
  readonly requirement: string
  /** Where the wheel goes; what pip has of it until then lies there too. */
  readonly folder: string
  /** More arguments, such as the platform that the wheel is for. */
  readonly options?: readonly string[]
}

export interface PipDeps {
  readonly runProcess: ProcessRunner
  readonly signal: AbortSignal
}

/**
 * `python3 -m pip`, with one addition: it ends when its standard input does, which is when this process dies. `os.read` because a
 * thread inside Python's own buffered reader would make the interpreter's exit fail.
 */
const PIP_THAT_DIES_WITH_US = [
  'import os, runpy, sys, threading',
  'def watch():',
  '    while os.read(0, 1): pass',
  '    os._exit(1)',
  'threading.Thread(target=watch, daemon=True).start()',
  "sys.argv[0] = 'pip'",
  "runpy.run_module('pip', run_name='__main__', alter_sys=True)",
].join('\n')

const OPTIONS = [
  ...['--no-deps', '--only-binary=:all:', '--no-cache-dir', '--disable-pip-version-check', '--no-input'],
  ...['--progress-bar=off', '--retries=3'],
]

/** @throws ServingError `source_unavailable` with pip's reason in one line, `client_closed` when stopped */
export async function downloadWheel({ python, requirement, folder, options = [] }: PipDownload, deps: PipDeps): Promise<void> {
  const args = ['-c', PIP_THAT_DIES_WITH_US, 'download', ...OPTIONS, ...options, '--dest', folder, requirement]
  try {
    // pip downloads into the temporary folder first: in ours it can be watched, and is swept when pip is killed.
    const { exitCode, output } = await deps.runProcess({ command: python, args, env: { TMPDIR: folder }, signal: deps.signal })
    throwIfStopped(deps.signal)
    if (exitCode !== 0) throw new ServingError('source_unavailable', `pip download ${requirement} failed: ${lastError(output)}`)
  } catch (error) {
    throwIfStopped(deps.signal)
    if (error instanceof ServingError) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw new ServingError('source_unavailable', `${python} could not be started: ${reason}`, {}, { cause: error })
  }
}

/** The line in which pip says what was wrong, without the rest of what it prints. */
function lastError(output: string): string {
  const lines = output
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
  const line =
    lines.findLast((text) => text.startsWith('ERROR:')) ??
    lines.findLast((text) => /error|no module named/i.test(text)) ??
    lines.at(-1)
  return (line ?? 'it said nothing').replace(/^ERROR: /, '').slice(0, 300)
}
