/** `npm run bench`: the process around a bench. Whatever it started ends with it, on Ctrl-C and on errors as well. */
import { homedir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { ServingError } from '@quiver/protocol'
import { runBenchProgram } from './program.ts'
import { CleanUp } from './shared/clean-up.ts'

const EXIT_FAILED = 1
const EXIT_USAGE = 2
const EXIT_INTERRUPTED = 130

const cleanUp = new CleanUp()
const stopping = new AbortController()
process.on('exit', () => cleanUp.runNow())
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    // Twice: somebody does not want to wait for an orderly end.
    if (stopping.signal.aborted) process.exit(EXIT_INTERRUPTED)
    process.stderr.write('Stopping; press Ctrl-C again to stop at once.\n')
    stopping.abort(new Error(`stopped by ${signal}`))
  })
}

process.exit(await exitCode())

async function exitCode(): Promise<number> {
  try {
    await runBenchProgram(process.argv.slice(2), {
      root: fileURLToPath(new URL('..', import.meta.url)),
      env: process.env,
      home: homedir(),
      cwd: process.cwd(),
      now: () => new Date(),
      cleanUp,
      signal: stopping.signal,
      write: (text) => process.stdout.write(text),
      progress: (line) => process.stderr.write(`… ${line}\n`),
    })
    return 0
  } catch (error) {
    if (stopping.signal.aborted) return EXIT_INTERRUPTED
    if (error instanceof ServingError && error.context['usage'] !== undefined) {
      process.stderr.write(`bench: ${error.message}\n`)
      return EXIT_USAGE
    }
    process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`)
    const cause = error instanceof ServingError ? error.cause : error
    if (cause instanceof Error) process.stderr.write(`${cause.stack ?? ''}\n`)
    return EXIT_FAILED
  } finally {
    await cleanUp.run().catch((error: unknown) => process.stderr.write(`bench: clean-up failed: ${String(error)}\n`))
  }
}
