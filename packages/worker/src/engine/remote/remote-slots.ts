import assert from 'node:assert/strict'
import { mkdir, readdir, rm } from 'node:fs/promises'
import path from 'node:path'
import type { DeviceMemory, PackedAdapter } from '@quiver/cache'
import type { AdapterDigest, BaseLayout, Logger, SlotIndex } from '@quiver/protocol'
import { writePeftFolder } from './peft-folder.ts'
import type { RemoteServer } from './remote-server.ts'

export interface RemoteSlotsConfig {
  readonly slots: number
  readonly layout: BaseLayout
  /** Where adapters are written for the server. */
  readonly folder: string
  /** What the server calls that folder. */
  readonly folderAtServer: string
}

type SlotServer = Pick<RemoteServer, 'load' | 'unload'>

interface Occupant {
  readonly name: string
  /** How often it was loaded again. */
  reloads: number
  /** One reload serves everybody who found it forgotten. */
  reload?: Promise<void>
}

/** Names of other adapters, which somebody else has loaded, are left alone. */
const NAME = /^quiver-[0-9a-f]{64}$/

/**
 * The slots of a server that keeps adapters by name. A name holds the digest of the weights, so that it never means others,
 * whatever was left there by a worker before. An occupant is unloaded when its slot is given to another.
 */
export class RemoteSlots implements DeviceMemory {
  readonly slots: number
  readonly #config: RemoteSlotsConfig
  readonly #server: SlotServer
  readonly #log: Logger
  readonly #occupants: (Occupant | undefined)[]
  /** Names of which it is not known whether the server has them: a load or an unload of theirs failed. */
  readonly #doubtful = new Set<string>()

  private constructor(config: RemoteSlotsConfig, deps: { readonly server: SlotServer; readonly log: Logger }) {
    this.slots = config.slots
    this.#config = config
    this.#server = deps.server
    this.#log = deps.log
    this.#occupants = Array.from({ length: config.slots }, () => undefined)
  }

  /** Makes the server and the folder empty of what an earlier worker left. @param present names that the server has */
  static async open(
    config: RemoteSlotsConfig,
    deps: { readonly server: SlotServer; readonly log: Logger },
    present: readonly string[],
  ): Promise<RemoteSlots> {
    for (const name of present) if (NAME.test(name)) await deps.server.unload(name)
    await mkdir(config.folder, { recursive: true })
    for (const entry of await readdir(config.folder)) {
      if (NAME.test(entry.replace(/\.part$/, ''))) await rm(path.join(config.folder, entry), { recursive: true, force: true })
    }
    return new RemoteSlots(config, deps)
  }

  async loadAdapter(slot: SlotIndex, packed: PackedAdapter): Promise<void> {
    await this.#vacate(slot)
    const name = nameOf(packed.digest)
    if (this.#doubtful.has(name)) await this.#unload(name)
    await writePeftFolder(path.join(this.#config.folder, name), packed, this.#config.layout)
    this.#doubtful.add(name)
    await this.#server.load(name, this.#pathOf(name))
    this.#doubtful.delete(name)
    this.#occupants[slot] = { name, reloads: 0 }
  }

  /** After a load that failed. The name stays in doubt until it is wanted again; nobody can ask for it before. */
  clearSlot(slot: SlotIndex): void {
    this.#occupants[slot] = undefined
  }

  /** How requests name the adapter in a slot, and how often it was loaded again. */
  occupant(slot: SlotIndex): { readonly name: string; readonly reloads: number } {
    const { name, reloads } = this.#at(slot)
    return { name, reloads }
  }

  /**
   * Loads a slot's adapter again, after the server has lost it.
   * @param reloads how often that had been done when it was asked for in vain; somebody else may have been faster
   */
  async reload(slot: SlotIndex, reloads: number): Promise<void> {
    const occupant = this.#at(slot)
    if (occupant.reloads !== reloads) return
    occupant.reload ??= this.#loadAgain(slot, occupant)
    await occupant.reload
  }

  async #loadAgain(slot: SlotIndex, occupant: Occupant): Promise<void> {
    try {
      await this.#server.load(occupant.name, this.#pathOf(occupant.name))
      occupant.reloads += 1
    } finally {
      delete occupant.reload
      // Everybody who wanted it has left meanwhile, and the slot is another's: it was unloaded before this load came to its end.
      if (this.#occupants[slot] !== occupant) this.#doubtful.add(occupant.name)
    }
  }

  #at(slot: SlotIndex): Occupant {
    const occupant = this.#occupants[slot]
    assert(occupant !== undefined, `slot ${slot} is used without an adapter in it`)
    return occupant
  }

  /** The server is left as it was found. */
  async close(): Promise<void> {
    // All at once: a server that does not answer holds up the end by one question's time, not by one for each slot.
    await Promise.all(this.#occupants.map((_, slot) => this.#vacate(slot as SlotIndex)))
  }

  async #vacate(slot: SlotIndex): Promise<void> {
    const occupant = this.#occupants[slot]
    if (occupant === undefined) return
    this.#occupants[slot] = undefined
    await this.#unload(occupant.name).catch((thrown: unknown) => {
      // The server evicts by itself what it has no room for; the name is cleared away before it is used again.
      this.#doubtful.add(occupant.name)
      this.#log('warn', 'an adapter could not be unloaded', { name: occupant.name, cause: String(thrown) })
    })
    await rm(path.join(this.#config.folder, occupant.name), { recursive: true, force: true })
  }

  async #unload(name: string): Promise<void> {
    await this.#server.unload(name)
    this.#doubtful.delete(name)
  }

  #pathOf(name: string): string {
    const { folderAtServer } = this.#config
    return folderAtServer.endsWith('/') ? `${folderAtServer}${name}` : `${folderAtServer}/${name}`
  }
}

function nameOf(digest: AdapterDigest): string {
  return `quiver-${digest}`
}
