/** `quiver keys`: makes, lists and revokes API keys in their file. */
import { randomBytes, randomUUID } from 'node:crypto'
import { type ApiKey, changeKeys, makeKey, type Right, readKeys, rights } from '@quiver/gateway'
import { type Priority, priorities, ServingError } from '@quiver/protocol'

export interface KeysIo {
  readonly stdout: NodeJS.WritableStream
  readonly stderr: NodeJS.WritableStream
  readonly now: () => Date
}

/** As it was typed. */
export interface WantedKey {
  readonly tenant: string
  /** Joined by commas. */
  readonly rights: string
  readonly weight?: string
  readonly priority?: string
}

/**
 * Adds a key and prints its secret, alone on standard output and for the only time.
 * @throws ServingError `invalid_request`
 */
export async function createKey(file: string, wanted: WantedKey, { stdout, stderr, now }: KeysIo): Promise<void> {
  const { tenant, rights: granted, weight, priority } = wanted
  const share = {
    ...(weight === undefined ? {} : { weight: Number(weight) }),
    ...(priority === undefined ? {} : { priority: parsePriority(priority) }),
  }
  const { secret, entry } = makeKey({ tenant, rights: parseRights(granted), ...share }, { drawBytes: randomBytes, now })
  await changeKeys(requireFile(file), randomUUID, (keys) => [...keys, entry])
  stderr.write(`Key ${entry.id} of tenant ${tenant}. It is shown this once, only its hash is kept:\n`)
  stdout.write(`${secret}\n`)
}

/** One line for each key: id, tenant, rights, when it was made, and its weight and highest priority where it has them. */
export async function listKeys(file: string, { stdout }: KeysIo): Promise<void> {
  const keys = await readKeys(requireFile(file))
  stdout.write(keys.map((key) => `${key.id}  ${key.tenant}  ${key.rights.join(',')}  ${key.createdAt}${shareOf(key)}\n`).join(''))
}

/** @throws ServingError `not_found` when there is no such key */
export async function revokeKey(file: string, id: string, { stderr }: KeysIo): Promise<void> {
  await changeKeys(requireFile(file), randomUUID, (keys) => {
    if (keys.some((key) => key.id === id)) return keys.filter((key) => key.id !== id)
    throw new ServingError('not_found', `there is no key ${JSON.stringify(id)}: \`quiver keys list\` shows those that there are`)
  })
  stderr.write(`Key ${id} is revoked from the next request on; streams that run go on.\n`)
}

function requireFile(file: string): string {
  if (file !== '') return file
  throw new ServingError('invalid_request', 'there is no keys file: name one with --keys or QUIVER_KEYS', { usage: 1 })
}

function shareOf({ weight, priority }: ApiKey): string {
  return `${weight === undefined ? '' : `  weight ${weight}`}${priority === undefined ? '' : `  priority ${priority}`}`
}

function parsePriority(text: string): Priority {
  const priority = priorities.find((known) => known === text)
  if (priority !== undefined) return priority
  throw new ServingError('invalid_request', `${JSON.stringify(text)} is not a priority: there are ${priorities.join(', ')}`, {
    usage: 1,
  })
}

function parseRights(text: string): readonly Right[] {
  return text.split(',').map((word) => {
    const right = rights.find((known) => known === word.trim())
    if (right !== undefined) return right
    throw new ServingError('invalid_request', `${JSON.stringify(word)} is not a right: there are ${rights.join(', ')}`, {
      usage: 1,
    })
  })
}
