import { spawn } from 'node:child_process'

export interface ProcessRun {
  readonly command: string
  readonly args: readonly string[]
  /** Added to the environment. */
  readonly env: Readonly<Record<string, string>>
  /** Kills the process. */
  readonly signal: AbortSignal
}

export interface ProcessResult {
  /** null when a signal ended it. */
  readonly exitCode: number | null
  /** The end of what it wrote, both streams together. */
  readonly output: string
}

/** Runs a command to its end. @throws Error with a `code` such as ENOENT when it cannot be started */
export type ProcessRunner = (run: ProcessRun) => Promise<ProcessResult>

const MAX_OUTPUT_CHARACTERS = 65_536

/**
 * Runs child processes with `environment`. Their standard input stays open for as long as this process lives, so that a child
 * that reads it can end itself when its parent dies, however it dies.
 */
export function createProcessRunner(environment: Readonly<Record<string, string | undefined>>): ProcessRunner {
  return ({ command, args, env, signal }) =>
    new Promise((resolve, reject) => {
      const child = spawn(command, [...args], {
        env: { ...environment, ...env },
        stdio: ['pipe', 'pipe', 'pipe'],
        signal,
        killSignal: 'SIGKILL',
      })
      let output = ''
      const collect = (chunk: string) => {
        output = (output + chunk).slice(-MAX_OUTPUT_CHARACTERS)
      }
      child.stdin.on('error', () => undefined) // The child closed its end: it has no use for input.
      child.stdout.setEncoding('utf8').on('data', collect)
      child.stderr.setEncoding('utf8').on('data', collect)
      child.once('error', reject)
      child.once('close', (exitCode) => resolve({ exitCode, output }))
    })
}
