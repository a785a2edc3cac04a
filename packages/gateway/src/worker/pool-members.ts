import { ServingError, type WorkerInfo } from '@quiver/protocol'
import { BaseModels } from './base-models.ts'
import { type MemberDeps, PoolMember } from './pool-member.ts'
import { Waiters } from './waiters.ts'
import type { WorkerClient, WorkerEndpoint } from './worker-client.ts'

export interface PoolDeps extends Omit<MemberDeps, 'fits' | 'changed'> {}

/** What is told of members that come and go. */
export interface MemberListener {
  joined(address: string): void
  parted(address: string): void
}

/** The list of workers that are added by hand, beside those of discovery. */
const BY_HAND = 'by hand'

/** Who belongs to a pool: workers that are added, and those that discovery lists. */
export class PoolMembers {
  readonly models: BaseModels
  readonly waiters: Waiters
  readonly #deps: PoolDeps
  readonly #listener: MemberListener
  readonly #members = new Map<string, PoolMember>()
  /** Addresses that each kind of discovery lists now. */
  readonly #listed = new Map<string, ReadonlySet<string>>()
  #arrivals = 0

  constructor(deps: PoolDeps, usualBase: string | undefined, listener: MemberListener) {
    this.#deps = deps
    this.#listener = listener
    this.models = new BaseModels(usualBase)
    this.waiters = new Waiters(deps.clock)
  }

  /** How often a worker was connected. */
  get arrivals(): number {
    return this.#arrivals
  }

  get(address: string): PoolMember | undefined {
    return this.#members.get(address)
  }

  all(): readonly PoolMember[] {
    return [...this.#members.values()]
  }

  /** Those that serve this base model, any where none is named, and are neither lost nor on their way out. */
  ready(base: string | undefined): readonly PoolMember[] {
    return this.all().filter(({ state, client }) => state === 'ready' && (base === undefined || client?.info.model.id === base))
  }

  /** Of every worker that answers. */
  clients(): readonly WorkerClient[] {
    return this.all().flatMap(({ state, client }) =>
      client !== undefined && (state === 'ready' || state === 'draining') ? [client] : [],
    )
  }

  /** A worker that stays until it is removed. Resolves when it is connected. @throws ServingError `worker_lost` after `patienceMs` */
  async add(endpoint: WorkerEndpoint, patienceMs: number): Promise<WorkerClient> {
    const { clock } = this.#deps
    const member = this.#join(endpoint)
    this.#listed.set(BY_HAND, new Set([...(this.#listed.get(BY_HAND) ?? []), member.address]))
    for (const untilMs = clock.nowMs() + patienceMs; ; ) {
      if (member.client !== undefined) return member.client
      const leftMs = untilMs - clock.nowMs()
      if (leftMs <= 0) throw new ServingError('worker_lost', 'the worker cannot be listened to', { worker: endpoint.url })
      await this.waiters.since(this.waiters.changes, leftMs)
    }
  }

  remove(address: string): void {
    this.#listed.set(BY_HAND, new Set([...(this.#listed.get(BY_HAND) ?? [])].filter((other) => other !== address)))
    this.#part(address)
  }

  list(source: string, addresses: readonly string[], token: string): void {
    this.#listed.set(source, new Set(addresses))
    for (const url of addresses) this.#join({ url, token })
    this.#dropUnlisted()
  }

  close(): void {
    for (const { address } of this.all()) this.#part(address)
  }

  #join(endpoint: WorkerEndpoint): PoolMember {
    const known = this.#members.get(endpoint.url)
    if (known !== undefined) return known
    let last: WorkerInfo | undefined
    const member = new PoolMember(endpoint, {
      ...this.#deps,
      fits: (info) => this.models.fits(info, this.clients()),
      changed: () => {
        const info = member.client?.info
        if (info !== undefined && info !== last) {
          this.#arrivals += 1
          if (member.state !== 'mismatched') this.models.note(info)
        }
        last = info
        this.waiters.wake()
        if (!member.isConnected) this.#dropUnlisted()
      },
    })
    this.#members.set(member.address, member)
    this.#listener.joined(member.address)
    member.start()
    return member
  }

  #part(address: string): void {
    this.#members.get(address)?.close()
    this.#members.delete(address)
    this.#listener.parted(address)
    this.waiters.wake()
  }

  /** A worker that is connected stays: who listens to it knows better than a list whether it is there. */
  #dropUnlisted(): void {
    const lists = [...this.#listed.values()]
    for (const { address, isConnected } of this.all()) {
      if (!isConnected && !lists.some((list) => list.has(address))) this.#part(address)
    }
  }
}
