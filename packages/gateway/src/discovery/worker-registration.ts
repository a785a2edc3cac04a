import type { Logger } from '@quiver/protocol'
import type { TimerClock } from '../clock.ts'
import type { RedisRegistry, RegistryEntry } from './redis-registry.ts'

/** Between two renewals: several fit into the life of an entry, so that one which fails costs nothing. */
const RENEW_MS = 1_000

export interface RegistrationDeps {
  readonly registry: Pick<RedisRegistry, 'takeFence' | 'register' | 'unregister'>
  readonly clock: TimerClock
  readonly log: Logger
  /** Another process has started at this address later: this one must not be sent anything any more. */
  readonly onReplaced: () => void
}

/**
 * Keeps one worker registered while it serves. Redis that is down, restarted empty or flushed costs nothing but that newcomers are not
 * found meanwhile: the entry is written anew at every renewal.
 */
export class WorkerRegistration {
  readonly #self: Omit<RegistryEntry, 'fence'>
  readonly #deps: RegistrationDeps
  #fence: number | undefined
  #isOver = false
  #stopTimer = () => {}
  #renewing: Promise<void> = Promise.resolve()

  constructor(self: Omit<RegistryEntry, 'fence'>, deps: RegistrationDeps) {
    this.#self = self
    this.#deps = deps
  }

  start(): void {
    this.#renewing = this.#renew()
  }

  /** Takes the entry back, so that nobody new comes. Never throws. */
  async end(): Promise<void> {
    this.#isOver = true
    this.#stopTimer()
    await this.#renewing
    if (this.#fence === undefined) return
    // It expires by itself where Redis cannot be reached now.
    await this.#deps.registry.unregister({ ...this.#self, fence: this.#fence }).catch(() => undefined)
  }

  async #renew(): Promise<void> {
    const { registry, clock, log, onReplaced } = this.#deps
    try {
      // The number belongs to this start: one taken after a pause would let the one that stood still win.
      this.#fence ??= await registry.takeFence()
      if (!(await registry.register({ ...this.#self, fence: this.#fence }))) {
        this.#isOver = true
        log('error', 'another worker has started at this address: this one is not registered any more', {
          address: this.#self.address,
        })
        onReplaced()
      }
    } catch {
      // The connection says once that it is gone and once that it is back.
    }
    if (!this.#isOver) this.#stopTimer = clock.after(RENEW_MS, () => this.start())
  }
}
