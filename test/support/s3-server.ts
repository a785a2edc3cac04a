/** An S3 server of the tests' own (SeaweedFS): wrong keys are refused, checksums verified, conditional writes atomic. */
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { freePorts, GuardedProcess } from './guarded-process.ts'
import { pythonWith } from './python-venv.ts'
import { type ServerControls, whenServing } from './ready-server.ts'

const READY_MS = 60_000
const STARTS = 3

export interface S3Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
}

/** What a test needs to use a server that somebody else started. */
export interface S3Access {
  /** `http://127.0.0.1:port` */
  readonly endpoint: string
  readonly region: string
  /** May do everything. */
  readonly writer: S3Credentials
  /** May list and read. */
  readonly reader: S3Credentials
}

export interface S3Server extends S3Access, ServerControls {}

const writer: S3Credentials = { accessKeyId: 'quiver-writer', secretAccessKey: 'a secret of the tests' }
const reader: S3Credentials = { accessKeyId: 'quiver-reader', secretAccessKey: 'another secret of the tests' }
export const s3Identities = { writer, reader, region: 'us-east-1' } as const

/**
 * Starts a server on free loopback ports, in about three seconds: ask `sharedS3` unless the test harms the server. It ends
 * with `stop`, or with the process that asked for it.
 */
export async function startS3Server(): Promise<S3Server> {
  const command = join(dirname(await pythonWith('test/support/services-requirements.txt')), 'weed')
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnce(command)
    } catch (error) {
      // Another process may have taken one of the ports that were free a moment ago.
      if (attempt === STARTS) throw error
    }
  }
}

async function startOnce(command: string): Promise<S3Server> {
  const folder = await mkdtemp(join(tmpdir(), 'quiver-s3-'))
  await writeFile(join(folder, 's3.json'), JSON.stringify(identities()))
  const ports = await freePorts(8)
  const endpoint = `http://127.0.0.1:${ports[6]}`
  const server = await GuardedProcess.start({
    command,
    args: weedArguments(folder, ports),
    folder,
    // These four are not asked where they may lie.
    litter: ['master', 'volume', 'filer', 's3'].map((name, at) => `/tmp/seaweedfs-${name}-grpc-${ports[2 * at + 1]}.sock`),
    // Its logs go to the folder for temporary files.
    env: { TMPDIR: folder },
  })
  const controls = await whenServing(server, { folder, timeoutMs: READY_MS, isReady: () => takesAnObject(endpoint) })
  return Object.assign(controls, { endpoint, ...s3Identities })
}

function weedArguments(folder: string, ports: readonly number[]): string[] {
  const [master, masterGrpc, volume, volumeGrpc, filer, filerGrpc, s3, s3Grpc] = ports
  const settings = {
    ip: '127.0.0.1',
    'ip.bind': '127.0.0.1',
    dir: folder,
    'master.telemetry': false,
    'master.port': master,
    // Without a port for gRPC each of the four would take its own plus 10,000.
    'master.port.grpc': masterGrpc,
    'volume.port': volume,
    'volume.port.grpc': volumeGrpc,
    'filer.port': filer,
    'filer.port.grpc': filerGrpc,
    's3.port': s3,
    's3.port.grpc': s3Grpc,
    's3.port.iceberg': 0,
    's3.port.lance': 0,
    's3.config': join(folder, 's3.json'),
    's3.localSocket': join(folder, 's3.sock'),
    'filer.localSocket': join(folder, 'filer.sock'),
    // A bucket takes a volume or more; 0 lets the disk decide.
    'volume.max': 0,
    'master.volumeSizeLimitMB': 64,
  }
  return ['server', '-filer', '-s3', ...Object.entries(settings).map(([name, value]) => `-${name}=${value}`)]
}

function identities() {
  const identity = (name: string, { accessKeyId, secretAccessKey }: S3Credentials, actions: readonly string[]) => ({
    name,
    credentials: [{ accessKey: accessKeyId, secretKey: secretAccessKey }],
    actions,
  })
  return {
    identities: [identity('writer', writer, ['Admin', 'Read', 'Write', 'List']), identity('reader', reader, ['Read', 'List'])],
  }
}

/** It answers some seconds before it can store anything. */
async function takesAnObject(endpoint: string): Promise<boolean> {
  const client = s3ClientOf({ endpoint, ...s3Identities })
  try {
    await client.send(new CreateBucketCommand({ Bucket: 'is-it-ready' })).catch((error: Error) => {
      // From an earlier attempt or an earlier run on this folder.
      if (!error.name.startsWith('BucketAlready')) throw error
    })
    await client.send(new PutObjectCommand({ Bucket: 'is-it-ready', Key: 'yes', Body: 'x' }))
    return true
  } catch {
    return false
  } finally {
    client.destroy()
  }
}

/** A plain client for a test's own reads and writes beside what it tests. One attempt; the caller destroys it. */
export function s3ClientOf({ endpoint, region, writer: credentials }: Omit<S3Access, 'reader'>): S3Client {
  return new S3Client({ endpoint, region, credentials, forcePathStyle: true, maxAttempts: 1 })
}
