/** `GET /docs`, `/openapi.json` and, where LoRAX has it, `/api-doc/openapi.json`. */
import type { IncomingMessage } from 'node:http'
import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import { docsPage } from './docs-page.ts'
import { openapiDocument } from './document.ts'

/** Three routes to be mounted at the root. What they answer never changes while the program runs, so it is written once. */
export function docsApp(version: string, requestIdOf: (incoming: IncomingMessage) => string): Hono<{ Bindings: HttpBindings }> {
  const document = openapiDocument(version)
  const json = JSON.stringify(document)
  const { html, policy } = docsPage(document)
  const app = new Hono<{ Bindings: HttpBindings }>()
  app.get('/docs', ({ env }) =>
    answer(html, {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': policy,
      'x-request-id': requestIdOf(env.incoming),
    }),
  )
  for (const path of ['/openapi.json', '/api-doc/openapi.json']) {
    app.get(path, ({ env }) => answer(json, { 'content-type': 'application/json', 'x-request-id': requestIdOf(env.incoming) }))
  }
  return app
}

function answer(body: string, headers: Record<string, string>): Response {
  return new Response(body, { headers })
}
