/** The list of adapters, one of them, and taking it out of service. */
import { ServingError, toServingError } from '@quiver/protocol'
import { isRetired, type NameEntry } from '../../catalogue/name-entry.ts'
import { entryAnswer, residencyAnswer, shownVersions, summaryAnswer } from './admin-answers.ts'
import { type AdminHandler, type AdminRequest, editorOf, knownEntry, nameOf, viewerOf } from './admin-deps.ts'
import { pageQuerySchema, parseAs, retireQuerySchema, versionSchema } from './admin-schema.ts'
import { editingOf } from './wishes.ts'

export const listAdapters: AdminHandler = async (request) => {
  const { retired, ...page } = parseAs(pageQuerySchema, request.query)
  const viewer = viewerOf(request)
  const { entries, cursor } = request.catalogue.page({ ...page, viewer, withRetired: retired === 'true' })
  return request.answer({ adapters: entries.map((entry) => summaryAnswer(entry, viewer)), cursor: cursor ?? null })
}

export const showAdapter: AdminHandler = async (request) => {
  const name = nameOf(request)
  await request.catalogue.refreshName(name).catch(passWhileUnreachable)
  return await answerEntry(request, knownEntry(request, name))
}

export const retireAdapter: AdminHandler = async (request) => {
  const { version } = parseAs(retireQuerySchema, request.query)
  const entry = await editorOf(request).retire(nameOf(request), { ...editingOf(request.caller), version })
  void request.pins.keep()
  return await answerEntry(request, entry)
}

export const restoreAdapter: AdminHandler = async (request) => {
  const { version } = parseAs(versionSchema, await request.jsonOrNothing())
  const entry = await editorOf(request).restore(nameOf(request), { ...editingOf(request.caller), version })
  void request.pins.keep()
  return await answerEntry(request, entry)
}

/** Everything about a name, and where its versions are. */
export async function answerEntry(request: AdminRequest, entry: NameEntry, more: object = {}): Promise<Response> {
  const viewer = viewerOf(request)
  return request.answer({
    ...entryAnswer(entry, viewer),
    residency: await residency(request, entry),
    last_errors: request.registrar.failures.of(entry.name),
    ...more,
  })
}

/** Null while a worker does not say. A retired version is listed where it still is. */
async function residency(request: AdminRequest, entry: NameEntry) {
  try {
    const reports = await request.workers.adapters(request.exchange.signal)
    return shownVersions(entry, viewerOf(request)).flatMap((manifest) =>
      residencyAnswer(reports, manifest).filter(({ state }) => state !== 'absent' || !isRetired(entry, manifest.version)),
    )
  } catch (thrown) {
    if (toServingError(thrown).code === 'client_closed') throw thrown
    return null
  }
}

/** What is known is told also while the store cannot be asked. */
function passWhileUnreachable(thrown: unknown): void {
  if (!(thrown instanceof ServingError && thrown.code === 'source_unavailable')) throw thrown
}
