/** A second S3 server (Versity's gateway over a folder), built from source, which tells of every change by a webhook in S3's format. */
import { mkdir, mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ListBucketsCommand } from '@aws-sdk/client-s3'
import { goTool } from './go-tool.ts'
import { freePorts, GuardedProcess, untilReady } from './guarded-process.ts'
import { isAlive } from './processes.ts'
import { type S3Access, s3ClientOf, s3Identities } from './s3-server.ts'

const MODULE = 'github.com/versity/versitygw/cmd/versitygw@v1.8.0'
const READY_MS = 20_000

export interface VersityServer extends Omit<S3Access, 'reader'> {
  stop(): Promise<void>
}

/**
 * Builds it where that has not been done, which takes minutes, and starts it on a free loopback port.
 * @param webhook where it posts `{"Records": […]}` for each change
 */
export async function startVersityGw({ webhook }: { readonly webhook?: string } = {}): Promise<VersityServer> {
  const command = await goTool('versitygw', MODULE)
  const folder = await mkdtemp(join(tmpdir(), 'quiver-versity-'))
  await mkdir(join(folder, 'objects'))
  const [port = 0] = await freePorts(1)
  const access = { ...s3Identities, endpoint: `http://127.0.0.1:${port}` }
  const { accessKeyId, secretAccessKey } = access.writer
  const server = await GuardedProcess.start({
    command,
    args: [
      ...['--port', `127.0.0.1:${port}`, '--region', access.region, '--quiet'],
      ...(webhook === undefined ? [] : ['--event-webhook-url', webhook]),
      ...['posix', join(folder, 'objects')],
    ],
    folder,
    env: { ROOT_ACCESS_KEY: accessKeyId, ROOT_SECRET_KEY: secretAccessKey },
  })
  try {
    await untilReady(() => answers(access), {
      timeoutMs: READY_MS,
      isAlive: () => isAlive(server.pid),
      explain: () => readFile(join(folder, 'log'), 'utf8'),
    })
  } catch (error) {
    await server.stop()
    throw error
  }
  return { ...access, stop: () => server.stop() }
}

async function answers(access: Omit<S3Access, 'reader'>): Promise<boolean> {
  const client = s3ClientOf(access)
  try {
    await client.send(new ListBucketsCommand({}))
    return true
  } catch {
    return false
  } finally {
    client.destroy()
  }
}
