/** What workers are told to do with an adapter. */
import { type AdapterOrderKind, ServingError, toServingError } from '@quiver/protocol'
import { DEFAULT_ALIAS } from '../../catalogue/adapter-reference.ts'
import type { Manifest } from '../../catalogue/manifest.ts'
import { find, type NameEntry } from '../../catalogue/name-entry.ts'
import { pinnedVersions } from '../../registration/pin-keeper.ts'
import { answerEntry } from './adapter-routes.ts'
import { type AdminHandler, type AdminRequest, editorOf, knownEntry, nameOf, viewerOf } from './admin-deps.ts'
import { parseAs, versionSchema } from './admin-schema.ts'
import { editingOf } from './wishes.ts'

/** The wish stays when a worker cannot follow it now: it is tried again, and the answer says why. */
export const pinAdapter: AdminHandler = async (request) => await setPinned(request, true)
export const unpinAdapter: AdminHandler = async (request) => await setPinned(request, false)

/** Answered when the adapter is there. */
export const prefetchAdapter: AdminHandler = async (request) => await orderVersion(request, 'prefetch')
/** Ends a quarantine before its time. */
export const liftAdapter: AdminHandler = async (request) => await orderVersion(request, 'lift')

async function setPinned(request: AdminRequest, isPinned: boolean): Promise<Response> {
  parseAs(versionSchema.omit({ version: true }), await request.jsonOrNothing())
  const entry = await editorOf(request).setPinned(nameOf(request), isPinned, editingOf(request.caller))
  const problems: object[] = []
  for (const manifest of pinnedVersions(entry)) {
    try {
      await request.pins.order(isPinned ? 'pin' : 'unpin', manifest, request.exchange.signal)
    } catch (thrown) {
      const { code, message } = toServingError(thrown)
      if (request.exchange.signal.aborted) throw thrown
      problems.push({ version: manifest.version, error: message, error_type: code })
    }
  }
  return await answerEntry(request, entry, problems.length === 0 ? {} : { problems })
}

async function orderVersion(request: AdminRequest, kind: AdapterOrderKind): Promise<Response> {
  const { version } = parseAs(versionSchema, await request.jsonOrNothing())
  const entry = knownEntry(request, nameOf(request))
  await request.pins.order(kind, versionOf(request, entry, version), request.exchange.signal)
  return await answerEntry(request, entry)
}

function versionOf(request: AdminRequest, entry: NameEntry, version: number | undefined): Manifest {
  const wanted =
    version === undefined ? ({ kind: 'alias', alias: DEFAULT_ALIAS } as const) : ({ kind: 'number', number: version } as const)
  const found = find(entry, wanted, viewerOf(request), undefined)
  if (found !== undefined) return found.manifest
  const what = version === undefined ? 'latest version' : `version ${version} that is served`
  throw new ServingError('adapter_not_found', `Adapter '${entry.name}' has no ${what}.`)
}
