import type { IncomingMessage } from 'node:http'
import type { ObjectStore } from '@quiver/cache/store'
import { type AdapterName, parseAdapterName, ServingError } from '@quiver/protocol'
import type { Caller } from '../../auth/guard.ts'
import type { Catalogue } from '../../catalogue/catalogue.ts'
import { CatalogueEditor } from '../../catalogue/catalogue-editor.ts'
import type { Manifest } from '../../catalogue/manifest.ts'
import type { NameEntry } from '../../catalogue/name-entry.ts'
import type { JobList } from '../../publish/job-list.ts'
import type { AdapterRegistrar } from '../../registration/adapter-registrar.ts'
import type { PinKeeper } from '../../registration/pin-keeper.ts'
import type { WorkerSource } from '../../worker/worker-source.ts'
import type { Exchange } from '../exchange.ts'
import { shownVersions } from './admin-answers.ts'
import type { DropAdmin } from './drop-routes.ts'
import { editingOf } from './wishes.ts'

/** What administration works on; a gateway without it has none. */
export interface AdminDeps {
  readonly catalogue: Catalogue
  readonly store: ObjectStore
  readonly registrar: AdapterRegistrar
  readonly pins: PinKeeper
  readonly jobs: JobList
  /** Absent: nothing can be dropped. */
  readonly drops?: DropAdmin | undefined
}

/** One request of administration, whoever may make it. */
export interface AdminRequest extends AdminDeps {
  readonly caller: Caller
  readonly incoming: IncomingMessage
  readonly exchange: Exchange
  readonly workers: WorkerSource
  readonly now: () => Date
  readonly newId: () => string
  /** Of the path, decoded. */
  param(name: string): string
  readonly query: Readonly<Record<string, string>>
  /** @throws ServingError as `readJsonBody` */
  json(): Promise<unknown>
  /** The body, or an empty object where there is none. */
  jsonOrNothing(): Promise<unknown>
  /** Tells the workers to fetch a version, without waiting for it. */
  prefetch(version: Pick<Manifest, 'name' | 'digest' | 'base'>): void
  answer(body: object, init?: { readonly status?: number; readonly location?: string }): Response
}

export type AdminHandler = (request: AdminRequest) => Promise<Response>

/** @throws ServingError `invalid_request` also for a name that is encoded wrongly */
export function nameOf(request: AdminRequest): AdapterName {
  return parseAdapterName(request.param('name'))
}

export function editorOf({ catalogue, now }: AdminRequest): CatalogueEditor {
  return new CatalogueEditor({ catalogue, now })
}

export function viewerOf({ caller }: AdminRequest) {
  return editingOf(caller).viewer ?? {}
}

/** What is known of a name. @throws ServingError `adapter_not_found` for one that the caller may not know of */
export function knownEntry(request: AdminRequest, name: AdapterName): NameEntry {
  const entry = request.catalogue.entry(name)
  if (
    entry !== undefined &&
    (shownVersions(entry, viewerOf(request)).length > 0 || (entry.fault !== undefined && request.caller.isOperator))
  ) {
    return entry
  }
  throw new ServingError('adapter_not_found', `Adapter '${name}' is not known here.`)
}
