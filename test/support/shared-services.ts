/**
 * Servers that all test files of a run share, since they take seconds to start: the process that runs the test files keeps
 * them, starts one when the first test asks for it, and none when no test does.
 */
import { createServer } from 'node:http'
import type { TestProject } from 'vitest/node'
import { type S3Server, startS3Server } from './s3-server.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** Where `GET /s3` answers how to reach the shared S3 server, when it is ready. */
    readonly services: string
  }
}

/** Vitest's hook of a whole run. @returns what ends everything that was started */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  let s3: Promise<S3Server> | undefined
  const server = createServer((request, response) => {
    if (request.url !== '/s3') {
      response.writeHead(404).end()
      return
    }
    s3 ??= startS3Server()
    s3.then(
      ({ endpoint, region, writer, reader }) => response.end(JSON.stringify({ endpoint, region, writer, reader })),
      (error: unknown) => response.writeHead(500).end(String(error)),
    )
  })
  // A first start installs the server.
  server.requestTimeout = 0
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a listening server has a port')
  project.provide('services', `http://127.0.0.1:${address.port}`)
  return async () => {
    server.closeAllConnections()
    server.close()
    // It may never have become ready.
    await s3?.then(
      (started) => started.stop(),
      () => undefined,
    )
  }
}
