/**
 * Reads a drop's files under the etags that it was found with, the cheap ones first, so that what cannot be published is refused
 * before its weights are read.
 */
import {
  adapterStartBytes,
  chatTemplateFiles,
  inspectAdapterStart,
  MAX_CONFIG_BYTES,
  maxWeightsBytes,
  readChatTemplate,
} from '@quiver/cache/format'
import type { ObjectEntry, ObjectStore } from '@quiver/cache/store'
import { type AdapterName, type BaseLayout, parseAdapterName, ServingError } from '@quiver/protocol'
import { type Drop, dropFolder, type InputName } from './drop-folder.ts'
import { type DropOptions, MAX_OPTIONS_BYTES, parseDropOptions } from './drop-options.ts'

/** Of the weights, read at first: the headers of most adapters fit into it, and small adapters whole. */
const FIRST_READ_BYTES = 256 * 1024

/** What adapters must fit. */
export interface DropBase {
  readonly layout: BaseLayout
  readonly maxRank: number
}

/** What adapters of a base model must fit, of the usual one without a name; undefined while no worker has said so. */
export type Bases = (name?: string) => DropBase | undefined

export interface DropContent extends DropBase {
  readonly name: AdapterName
  readonly options: DropOptions
  readonly config: Uint8Array
  readonly weights: Uint8Array<ArrayBuffer>
  readonly chatTemplate?: string
}

/** A refusal that the drop's owner has to do something about; trying again changes nothing. */
export class Rejection extends Error {
  readonly reasons: readonly ServingError[]

  constructor(reasons: readonly ServingError[]) {
    super(reasons.map(({ message }) => message).join('; '))
    this.reasons = reasons
  }
}

/** The files were replaced or removed since they were found. */
export class Superseded extends Error {}

const rejecting: ReadonlySet<string> = new Set([
  'adapter_invalid',
  'invalid_parameters',
  'invalid_request',
  'too_large',
  'template_error',
] satisfies ServingError['code'][])

/** Whether an error is the drop's own fault. */
export function isRefusal(thrown: unknown): thrown is ServingError {
  return thrown instanceof ServingError && rejecting.has(thrown.code)
}

/**
 * @throws Rejection with every reason that can be known before the weights are read whole, Superseded, and ServingError
 * `source_unavailable` when the store does not answer, `not_ready` while its base model is not known
 */
export async function readContent(store: ObjectStore, drop: Drop, bases: Bases, signal: AbortSignal): Promise<DropContent> {
  const reasons: ServingError[] = []
  /** Goes on after a refusal, to find the others too. */
  const check = async <T>(part: () => T | Promise<T>): Promise<T | undefined> => {
    try {
      return await part()
    } catch (thrown) {
      if (!isRefusal(thrown)) throw thrown
      reasons.push(thrown)
      return undefined
    }
  }
  const file = (name: InputName, maxBytes: number) => readFile(store, drop, { name, maxBytes, signal })
  const name = await check(() => parseAdapterName(drop.name))
  const options = await check(async () => parseDropOptions((await file('quiver.json', MAX_OPTIONS_BYTES)) ?? emptyObject()))
  const base = baseOf(options, bases)
  const chatTemplate = await check(async () => {
    const [jinja, tokenizer] = chatTemplateFiles
    // The first that is there counts, and the other one is not read.
    const first = await file(jinja.name, jinja.maxBytes)
    const second = first === undefined ? await file(tokenizer.name, tokenizer.maxBytes) : undefined
    return readChatTemplate({ [jinja.name]: first, [tokenizer.name]: second })
  })
  const adapter = await check(() => readAdapterFiles(store, drop, base, signal))
  if (name === undefined || options === undefined || adapter === undefined || reasons.length > 0) throw new Rejection(reasons)
  return { name, options, ...base, ...adapter, ...(chatTemplate === undefined ? {} : { chatTemplate }) }
}

/** A worker of that base model may come yet, so that it is no reason to reject. */
function baseOf(options: DropOptions | undefined, bases: Bases): DropBase {
  const name = options?.base
  const base = bases(name)
  if (base !== undefined) return base
  const which = name === undefined ? '' : ` of ${JSON.stringify(name.slice(0, 120))}`
  throw new ServingError('not_ready', `what adapters${which} must fit is not known yet: no worker serves that model`)
}

/** @throws ServingError `adapter_invalid`, `too_large` */
async function readAdapterFiles(store: ObjectStore, drop: Drop, { layout, maxRank }: DropBase, signal: AbortSignal) {
  const entry = drop.files.get('adapter_model.safetensors')
  const config = await readFile(store, drop, { name: 'adapter_config.json', maxBytes: MAX_CONFIG_BYTES, signal })
  if (entry === undefined || config === undefined) throw whyIncomplete(drop)
  const most = maxWeightsBytes(layout, maxRank)
  if (entry.size > most) throw tooLarge('adapter_model.safetensors', entry.size, most)
  const fileBytes = entry.size
  const read = (end: number) => readRange(store, drop, { entry, end, signal })
  let bytes = await read(FIRST_READ_BYTES)
  const needed = adapterStartBytes({ bytes, fileBytes })
  if (needed > bytes.length) bytes = await read(needed)
  inspectAdapterStart(config, { bytes, fileBytes }, layout, maxRank)
  return { config, weights: bytes.length === fileBytes ? bytes : await read(fileBytes) }
}

async function readFile(
  store: ObjectStore,
  drop: Drop,
  { name, maxBytes, signal }: { readonly name: InputName; readonly maxBytes: number; readonly signal: AbortSignal },
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const entry = drop.files.get(name)
  if (entry === undefined) return undefined
  if (entry.size > maxBytes) throw tooLarge(name, entry.size, maxBytes)
  return await readRange(store, drop, { entry, end: undefined, signal })
}

/** The first `end` bytes, or all of them. @throws Superseded when it is no longer what was found */
async function readRange(
  store: ObjectStore,
  { name }: Drop,
  { entry, end, signal }: { readonly entry: ObjectEntry; readonly end: number | undefined; readonly signal: AbortSignal },
): Promise<Uint8Array<ArrayBuffer>> {
  const { key, etag, size } = entry
  const isPart = end !== undefined && end < size
  try {
    const range = isPart ? { range: { start: 0, end } } : {}
    return (await store.get(key, { ifMatch: etag, maxBytes: size, signal, ...range })).bytes
  } catch (thrown) {
    const isGone = thrown instanceof ServingError && ['conflict', 'not_found', 'too_large'].includes(thrown.code)
    if (isGone) throw new Superseded(`${dropFolder(name)} was changed`, { cause: thrown })
    throw thrown
  }
}

function whyIncomplete({ files }: Drop): ServingError {
  const isThere = (name: InputName) => files.has(name)
  const reasons = [
    ...(isThere('adapter_config.json') ? [] : ['adapter_config.json is missing']),
    ...(isThere('adapter_model.safetensors')
      ? []
      : isThere('adapter_model.bin')
        ? ['adapter_model.bin is a pickle, which is never opened: save the adapter as safetensors']
        : isThere('adapter_model.safetensors.index.json')
          ? ['the weights are split into several files: save the adapter as one adapter_model.safetensors']
          : ['adapter_model.safetensors is missing']),
  ]
  return new ServingError('adapter_invalid', reasons.join('; '))
}

function tooLarge(name: string, size: number, most: number): ServingError {
  return new ServingError('too_large', `${name} has ${size} bytes; at most ${most} are allowed`)
}

function emptyObject(): Uint8Array {
  return new TextEncoder().encode('{}')
}
