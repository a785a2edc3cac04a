import { parseArgs } from 'node:util'
import { ServingError } from '@quiver/protocol'

/** What the command line asks for. */
export type Command =
  | { readonly kind: 'help' }
  /** Writes docs/benchmarks.md from the reference results. */
  | { readonly kind: 'report' }
  | {
      readonly kind: 'run'
      readonly bench: string
      readonly model: string | undefined
      readonly dtype: string | undefined
      readonly seed: number
      readonly quick: boolean
      readonly only: readonly string[]
      /** Make the result the reference that docs/benchmarks.md shows. */
      readonly keep: boolean
    }

const DEFAULT_SEED = 1

/**
 * @param args what stands behind `npm run bench --`
 * @throws ServingError `invalid_request` saying what is not understood
 * @example parseCommand(['engine', '--quick'], new Map([['engine', ['decode', 'prefill']]]))
 */
export function parseCommand(args: readonly string[], parts: ReadonlyMap<string, readonly string[]>): Command {
  const { values, positionals } = parse(args)
  const [name, ...more] = positionals
  if (values.help || name === undefined) return { kind: 'help' }
  if (more.length > 0) throw usage(`one bench at a time: ${positionals.join(', ')}`)
  if (name === 'report') return { kind: 'report' }
  const known = parts.get(name)
  if (known === undefined) throw usage(`there is no bench ${JSON.stringify(name)}: use ${[...parts.keys(), 'report'].join(', ')}`)
  const only = values.only?.split(',').filter(Boolean) ?? []
  const unknown = only.find((part) => !known.includes(part))
  if (unknown !== undefined) throw usage(`the bench ${name} has no part ${JSON.stringify(unknown)}: use ${known.join(', ')}`)
  if (values.keep && only.length > 0) throw usage('--keep needs a whole run: leave out --only')
  const seed = Number(values.seed ?? DEFAULT_SEED)
  if (!Number.isSafeInteger(seed) || seed < 0) throw usage(`--seed is ${JSON.stringify(values.seed)}, but must be a whole number`)
  const { model, dtype, quick, keep } = values
  return { kind: 'run', bench: name, model, dtype, seed, quick, only, keep }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        model: { type: 'string' },
        dtype: { type: 'string' },
        seed: { type: 'string' },
        only: { type: 'string' },
        quick: { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
  } catch (error) {
    throw usage(error instanceof Error ? error.message : String(error))
  }
}

function usage(message: string): ServingError {
  return new ServingError('invalid_request', message, { usage: 1 })
}
