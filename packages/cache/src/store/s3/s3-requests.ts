/** How a request goes out: with which client, beside how many others, how often, and within what time. */
import { S3Client } from '@aws-sdk/client-s3'
import { ServingError } from '@quiver/protocol'
import { AttemptLimits, type TimeLimits } from './attempt-limits.ts'
import { RequestWindow } from './request-window.ts'
import type { S3Address } from './s3-address.ts'
import { judge, s3Failure } from './s3-failure.ts'
import { Retries, type RetryDeps, type RetryPolicy, RetryPurse } from './s3-retries.ts'

export interface S3Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
  /** When they end, where they do. */
  readonly expiration?: Date
}

export interface S3RequestsConfig {
  readonly address: S3Address
  /** Another server than Amazon's; its buckets are then part of the path, not of the host's name. */
  readonly endpoint?: string
  /** Where absent: `us-east-1` with an endpoint, else what the standard chain says (`AWS_REGION`, the profile). */
  readonly region?: string
  /** Where absent, the standard chain: environment, profile, web identity, container, instance. */
  readonly credentials?: () => Promise<S3Credentials>
  readonly retry: RetryPolicy
  readonly time: TimeLimits
}

export interface S3Operation {
  /** In words that end before the key: `reading`. */
  readonly doing: string
  readonly key: string
  readonly signal?: AbortSignal | undefined
  /** Bytes that an attempt sends. */
  readonly sendBytes?: number
}

export interface S3Attempt {
  readonly client: S3Client
  readonly limits: AttemptLimits
  readonly retries: Retries
}

type Once<T> = { readonly ok: true; readonly result: T } | { readonly ok: false; readonly thrown: unknown }

export class S3Requests {
  readonly #config: S3RequestsConfig
  readonly #deps: RetryDeps
  readonly #purse = new RetryPurse()
  readonly #window: RequestWindow
  #client: S3Client

  constructor(config: S3RequestsConfig, deps: RetryDeps) {
    this.#config = config
    this.#deps = deps
    this.#window = new RequestWindow(deps.clock)
    this.#client = this.#newClient()
  }

  /**
   * Makes attempts until one succeeds or there shall be no more. Keys that have expired are renewed once.
   * @throws ServingError as ObjectStore says
   */
  async run<T>(operation: S3Operation, attempt: (attempt: S3Attempt) => Promise<T>): Promise<T> {
    const { signal } = operation
    const retries = new Retries(this.#config.retry, this.#deps, this.#purse)
    for (let isRenewed = false; ; ) {
      const client = this.#client
      const outcome = await this.#once(operation, (limits) => attempt({ client, limits, retries }))
      if (outcome.ok) {
        retries.succeeded()
        return outcome.result
      }
      const { thrown } = outcome
      if (signal?.aborted) throw cancelled(operation, thrown)
      const { isTransient, isExpired } = judge(thrown)
      if (isExpired && !isRenewed) {
        isRenewed = true
        this.#renew(client)
      } else if (!isTransient || !(await retries.again(signal))) {
        if (signal?.aborted) throw cancelled(operation, thrown)
        throw this.#failure(thrown, operation, retries.attempts)
      }
    }
  }

  /** One attempt, when there is a place for it; its pauses hold none. */
  async #once<T>({ signal, sendBytes }: S3Operation, attempt: (limits: AttemptLimits) => Promise<T>): Promise<Once<T>> {
    const leave = await this.#window.enter(signal)
    if (leave === undefined) return { ok: false, thrown: signal?.reason }
    const limits = new AttemptLimits(this.#deps.timers, this.#config.time, {
      signal,
      ...(sendBytes === undefined ? {} : { sendBytes }),
    })
    try {
      const result = await attempt(limits)
      leave('served')
      return { ok: true, result }
    } catch (caught) {
      const thrown = limits.tooSlow ?? caught
      leave(judge(thrown).wantsFewer ? 'refused' : 'failed')
      return { ok: false, thrown }
    } finally {
      limits.end()
    }
  }

  /** Closes the connections that are not in use. */
  close(): void {
    this.#client.destroy()
  }

  #failure(thrown: unknown, { doing, key }: S3Operation, attempts: number): ServingError {
    const { address, endpoint = 'the standard endpoint' } = this.#config
    return s3Failure(thrown, { address, endpoint, doing, key, attempts })
  }

  /** A new client asks the chain anew. Requests of the old one go on; it is let go, and its connections end when idle. */
  #renew(expired: S3Client): void {
    if (this.#client === expired) this.#client = this.#newClient()
  }

  #newClient(): S3Client {
    const { endpoint, region, credentials, time } = this.#config
    const where = region ?? (endpoint === undefined ? undefined : 'us-east-1')
    return new S3Client({
      ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
      ...(where === undefined ? {} : { region: where }),
      ...(credentials === undefined ? {} : { credentials }),
      // Attempts are counted here, where pauses can be tested and a download goes on from where it broke off.
      maxAttempts: 1,
      followRegionRedirects: false,
      // It costs a connection of its own per upload.
      expectContinueHeader: false,
      requestHandler: { connectionTimeout: time.connectMs, socketTimeout: time.answerMs, httpAgent: agent, httpsAgent: agent },
    })
  }
}

const agent = { keepAlive: true, maxSockets: 64 } as const

function cancelled({ doing, key }: S3Operation, cause: unknown): ServingError {
  return new ServingError('client_closed', `${doing} object ${key} was cancelled`, {}, { cause })
}
