/** How one option was given: by which of its names, and what. */
import { isIP } from 'node:net'
import type { OptionName } from './option-names.ts'

export type Flags = Readonly<Record<string, string | undefined>>
export type Origin = 'flag' | 'environment' | 'default'

export interface GivenOption {
  /** Undefined: not given. */
  readonly text: string | undefined
  readonly origin: Origin
  /** The flag or variable. */
  readonly name: string
}

/** A flag wins over the environment, and in both our own name over TGI's and LoRAX's. */
export function readOption(names: OptionName, flags: Flags, env: Readonly<Record<string, string | undefined>>): GivenOption {
  for (const flag of [names.flag, ...(names.theirs?.flags ?? [])]) {
    const text = flags[flagKey({ flag })]
    if (text !== undefined) return { text, origin: 'flag', name: `--${flag}` }
  }
  for (const name of [names.env, ...(names.theirs?.env ?? [])]) {
    const text = env[name]
    // Every container has its own id in HOSTNAME; TGI's sense of it is meant only where it is an address.
    const isUsable = text !== undefined && text !== '' && (name !== 'HOSTNAME' || isIP(text) !== 0)
    if (isUsable) return { text, origin: 'environment', name }
  }
  return { text: undefined, origin: 'default', name: names.env }
}

/** The flag's name as commander gives it: `max-rank` becomes `maxRank`. */
export function flagKey({ flag }: Pick<OptionName, 'flag'>): string {
  return flag.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())
}
