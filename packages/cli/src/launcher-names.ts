/** Settings of TGI and LoRAX that are accepted, so that a start needs no change, but mean nothing here. */

import { type Flags, flagKey } from './given-option.ts'
import type { Config, Surroundings } from './option-schema.ts'

export interface UnusedName {
  readonly env: string
  readonly flag: string
  readonly why: string
}

export const unusedNames: readonly UnusedName[] = [
  {
    env: 'MAX_BATCH_PREFILL_TOKENS',
    flag: 'max-batch-prefill-tokens',
    why: 'prompts are computed in parts beside running answers, and --chunk-tokens bounds a part',
  },
  {
    env: 'MAX_BATCH_TOTAL_TOKENS',
    flag: 'max-batch-total-tokens',
    why: 'each of --sequences requests has room for --total-tokens',
  },
]

/** One sentence for each setting that was given and has no effect. */
export function unusedNotices(config: Pick<Config, 'adapterSource'>, flags: Flags, { env }: Surroundings): readonly string[] {
  const notices = unusedNames.flatMap(({ env: variable, flag, why }) => {
    const given = flags[flagKey({ flag })] !== undefined ? `--${flag}` : (env[variable] ?? '') === '' ? undefined : variable
    return given === undefined ? [] : [`${given} has no effect: ${why}.`]
  })
  const { adapterSource } = config
  if (adapterSource !== 'pbase') return notices
  const source = `Adapter source ${adapterSource} is not offered: adapters are looked up in this server's catalogue.`
  return [...notices, source]
}
