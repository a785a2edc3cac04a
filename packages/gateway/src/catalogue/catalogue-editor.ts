import { type AdapterName, ServingError } from '@quiver/protocol'
import { DEFAULT_ALIAS } from './adapter-reference.ts'
import type { Actor, AuditDetail } from './audit-event.ts'
import type { Catalogue } from './catalogue.ts'
import { isServed, type NameEntry, type Viewer } from './name-entry.ts'
import type { Canary, NameRecord } from './name-record.ts'
import {
  expectTarget,
  rolledBack,
  withAlias,
  withCanary,
  withoutAlias,
  withPin,
  withRestored,
  withRetired,
} from './record-changes.ts'

/** Who changes something, and of whose adapters. */
export interface Editing {
  readonly actor: Actor
  /** With a tenant, only that tenant's own adapters can be changed; without it, by an operator, all. */
  readonly viewer?: Viewer | undefined
}

export interface AliasEditing extends Editing {
  /** Refuses with `conflict` unless the alias names this version now; 0: unless there is none. */
  readonly expected?: number | undefined
}

/**
 * What operators do to adapters that are published. Each is one compare-and-swap with one entry of the audit log; what is so
 * already is left alone and not logged. All are refused with `adapter_not_found` for a name that the editor may not know of,
 * `forbidden` for one that is not theirs, `source_unavailable` when the store cannot be reached.
 */
export class CatalogueEditor {
  readonly #catalogue: Catalogue
  readonly #now: () => Date

  constructor({ catalogue, now }: { readonly catalogue: Catalogue; readonly now: () => Date }) {
    this.#catalogue = catalogue
    this.#now = now
  }

  /** @throws ServingError `conflict`, `adapter_not_found` for a version that is not served, `invalid_request` for what is no alias */
  async moveAlias(name: AdapterName, alias: string, version: number, editing: AliasEditing): Promise<NameEntry> {
    return await this.#changeAlias(name, alias, 'alias.move', editing, (entry) => withAlias(entry, alias, version))
  }

  /** @throws ServingError `not_found` without the alias, `conflict` */
  async removeAlias(name: AdapterName, alias: string, editing: AliasEditing): Promise<NameEntry> {
    return await this.#changeAlias(name, alias, 'alias.remove', editing, (entry) => withoutAlias(entry, alias))
  }

  /** Back to what the alias named before its last move. @throws ServingError `not_found` without the alias, `conflict` */
  async rollback(name: AdapterName, editing: AliasEditing & { readonly alias?: string | undefined }): Promise<NameEntry> {
    const { alias = DEFAULT_ALIAS } = editing
    return await this.#changeAlias(name, alias, 'alias.rollback', editing, (entry) => rolledBack(entry, alias))
  }

  /**
   * Lets another version answer a share of an alias's users, or none of them any more.
   * @throws ServingError `not_found` without the alias, `adapter_not_found` for the version, `invalid_parameters`, `conflict`
   */
  async setCanary(
    name: AdapterName,
    canary: Canary | undefined,
    editing: AliasEditing & { readonly alias?: string | undefined },
  ): Promise<NameEntry> {
    const { alias = DEFAULT_ALIAS } = editing
    return await this.#changeAlias(name, alias, 'canary.set', editing, (entry) => withCanary(entry, alias, canary))
  }

  /** A pinned adapter stays in the tiers; that is the wish, and workers follow it. */
  async setPinned(name: AdapterName, isPinned: boolean, editing: Editing): Promise<NameEntry> {
    return await this.#change(name, isPinned ? 'adapter.pin' : 'adapter.unpin', editing, {
      decide: (entry) => withPin(entry, isPinned),
      detail: (record) => ({ isPinned: record.isPinned }),
    })
  }

  /**
   * Takes a name, or one version of it, out of service: new requests are told that there is no such adapter, running ones
   * finish, and the bytes are collected after a time of grace.
   * @throws ServingError `conflict` for a single version that an alias names
   */
  async retire(name: AdapterName, editing: Editing & { readonly version?: number | undefined }): Promise<NameEntry> {
    const at = this.#now().toISOString()
    return await this.#change(name, 'adapter.retire', editing, {
      decide: (entry) => withRetired(entry, editing.version, at),
      detail: (record) => ({ retired: [...record.retired.keys()] }),
    })
  }

  /** Undoes `retire` as long as the bytes are there. @throws ServingError `conflict` when a version is being deleted */
  async restore(name: AdapterName, editing: Editing & { readonly version?: number | undefined }): Promise<NameEntry> {
    return await this.#change(name, 'adapter.restore', editing, {
      decide: (entry) => withRestored(entry, editing.version),
      detail: (record) => ({ retired: [...record.retired.keys()] }),
    })
  }

  async #changeAlias(
    name: AdapterName,
    alias: string,
    action: string,
    editing: AliasEditing,
    decide: (entry: NameEntry) => NameRecord,
  ): Promise<NameEntry> {
    return await this.#change(name, action, editing, {
      decide(entry) {
        expectTarget(entry, alias, editing.expected)
        return decide(entry)
      },
      detail: (record) => aliasDetail(record, alias),
    })
  }

  async #change(
    name: AdapterName,
    action: string,
    { actor, viewer = {} }: Editing,
    { decide, detail }: { decide: (entry: NameEntry) => NameRecord; detail: (record: NameRecord) => AuditDetail },
  ): Promise<NameEntry> {
    return await this.#catalogue.change(name, (entry) => {
      needOwn(entry, viewer)
      const record = decide(entry)
      if (record === entry.record) return undefined
      const event = {
        at: this.#now().toISOString(),
        actor,
        action,
        subject: name,
        before: detail(entry.record),
        after: detail(record),
      }
      return { record, event }
    })
  }
}

function aliasDetail({ aliases }: NameRecord, alias: string): AuditDetail {
  const target = aliases.get(alias)
  const { canary } = target ?? {}
  return { alias, version: target?.version ?? 0, ...(canary === undefined ? {} : { canary: { ...canary } }) }
}

function needOwn(entry: NameEntry, viewer: Viewer): void {
  const { tenant } = viewer
  const isKnown = entry.versions.size > 0 && (tenant === undefined || isServed(entry, viewer) || isOwn(entry, tenant))
  if (!isKnown) throw new ServingError('adapter_not_found', `Adapter '${entry.name}' is not known here.`)
  if (tenant !== undefined && !isOwn(entry, tenant)) {
    throw new ServingError(
      'forbidden',
      `Adapter '${entry.name}' does not belong to this key's tenant: only an operator can change it`,
    )
  }
}

/** Whether every version is the tenant's own. */
function isOwn({ versions }: NameEntry, tenant: string): boolean {
  return [...versions.values()].every((manifest) => manifest.tenant === tenant)
}
