/**
 * Reads everything that can be set: one schema says what is allowed, one table how it is called. A flag wins over the
 * environment, the environment over the default; an empty environment variable counts as not set.
 */
import { ServingError } from '@quiver/protocol'
import type { z } from 'zod'
import { type Flags, type GivenOption, type Origin, readOption } from './given-option.ts'
import { unusedNotices } from './launcher-names.ts'
import { optionKeys, optionNames } from './option-names.ts'
import { type Config, type ConfigKey, defaultStore, defaultTexts, type Surroundings, schemaFor } from './option-schema.ts'

export interface ReadConfig {
  readonly config: Config
  readonly origins: Readonly<Record<ConfigKey, Origin>>
  /** The flag or variable that each value was given by. */
  readonly givenBy: Readonly<Partial<Record<ConfigKey, string>>>
  /** What was set but has no effect, in sentences. */
  readonly notices: readonly string[]
}

/**
 * @param flags by the flag's name in camel case, as commander gives them
 * @throws ServingError `invalid_request` with one line that names the variable or flag, the value, and what is allowed
 * @example readConfig({ port: '9000' }, { env: process.env, cwd: process.cwd(), home: homedir(), processors: 2 })
 */
export function readConfig(flags: Flags, surroundings: Surroundings): ReadConfig {
  const given = optionKeys.map((key) => [key, readOption(optionNames[key], flags, surroundings.env)] as const)
  const texts = Object.fromEntries(given.map(([key, { text }]) => [key, text]))
  const defaults = defaultTexts(surroundings)
  // The store lies in the data folder unless told otherwise, so it waits for that to be known.
  const data = texts['data'] ?? defaults.data
  const parsed = schemaFor(surroundings).safeParse({
    ...defaults,
    store: defaultStore(data, surroundings),
    ...withoutUndefined(texts),
  })
  if (!parsed.success) throw refusal(parsed.error.issues[0], Object.fromEntries(given))
  const origins = Object.fromEntries(given.map(([key, { origin }]) => [key, origin])) as Record<ConfigKey, Origin>
  const givenBy = Object.fromEntries(given.map(([key, { name, origin }]) => [key, origin === 'default' ? undefined : name]))
  return { config: parsed.data, origins, givenBy, notices: unusedNotices(parsed.data, flags, surroundings) }
}

/** The environment in which another process of quiver reads this very configuration. */
export function toEnvironment(config: Config): Record<string, string> {
  return Object.fromEntries(optionKeys.map((key) => [optionNames[key].env, optionText(config, key)]))
}

/** An option's value as it is written in the environment. */
export function optionText(config: Config, key: ConfigKey): string {
  const value = config[key]
  // Paths may hold commas; the others colons.
  return Array.isArray(value) ? value.join(key === 'localRoots' ? ':' : ',') : String(value)
}

function withoutUndefined(texts: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(Object.entries(texts).filter((entry): entry is [string, string] => entry[1] !== undefined))
}

function refusal(issue: z.core.$ZodIssue | undefined, given: Record<string, GivenOption>): ServingError {
  const key = optionKeys.find((candidate) => candidate === issue?.path[0])
  if (key === undefined)
    return new ServingError('invalid_request', issue?.message ?? 'the configuration is not valid', { usage: 1 })
  const names = optionNames[key]
  const { text, name } = given[key] ?? { text: undefined, name: names.env }
  const shown = names.isSecret ? 'hidden' : JSON.stringify(text ?? '')
  return new ServingError('invalid_request', `${name} is ${shown}, but must be ${issue?.message}`, { usage: 1 })
}
