/** The OpenAPI document as one page of HTML: without scripts and without anything from elsewhere, so that it works offline. */
import { createHash } from 'node:crypto'
import type { Content, OpenapiDocument, Operation } from './document.ts'
import { pageStyle } from './page-style.ts'
import { fieldRows, typeText } from './schema-table.ts'

export interface DocsPage {
  readonly html: string
  /** Value of `content-security-policy`: nothing but the page's own style. */
  readonly policy: string
}

export function docsPage(document: OpenapiDocument): DocsPage {
  const { info, tags, paths, components } = document
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  )
  const families = tags.map((tag) => ({ ...tag, own: operations.filter(({ operation }) => operation.tags.includes(tag.name)) }))
  const sections = families.map(({ name, description, own }) => {
    const routes = own.map(({ path, method, operation }) => routeSection(path, method, operation)).join('')
    return `<h2>${escapeHtml(name)}</h2><p>${rich(description)}</p>${routes}`
  })
  const links = families.map(({ name, own }) => {
    const items = own.map(
      ({ path, method, operation }) =>
        `<li><a href="#${operation.operationId}">${badge(method)} <code>${escapeHtml(path)}</code></a> <span>${rich(operation.summary)}</span></li>`,
    )
    return `<h4>${escapeHtml(name)}</h4><ul>${items.join('')}</ul>`
  })
  const schemas = Object.entries(components.schemas).map(
    ([name, schema]) =>
      `<details id="schema-${name}"><summary><code>${name}</code></summary><p>${rich(typeText(schema))}</p>${table(schema)}</details>`,
  )
  const html = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(info.title)}: routes</title><style>${pageStyle}</style></head>
<body><header><h1>${escapeHtml(info.title)} <small>${escapeHtml(info.version)}</small></h1><p>${rich(info.description)}
The same for programs: <a href="openapi.json">openapi.json</a> (OpenAPI ${document.openapi}).</p>
<p>${rich('A server with API keys wants one as `Authorization: Bearer` or as `x-api-key`, on all routes that may answer 401.')}</p></header>
<nav>${links.join('')}</nav>
<main>${sections.join('')}<h2>Schemas</h2>${schemas.join('')}</main></body></html>
`
  const hash = createHash('sha256').update(pageStyle).digest('base64')
  return {
    html,
    policy: `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  }
}

function routeSection(path: string, method: string, operation: Operation): string {
  const { operationId, summary, description = '', parameters = [], requestBody, responses } = operation
  const [body] = Object.values(requestBody?.content ?? {})
  const answers = Object.entries(responses).map(([status, { description: when, content = {} }]) => {
    const bodies = Object.entries(content).map(
      ([type, { schema }]) => `${bodyLink(schema)} <span class="type">${escapeHtml(type)}</span>`,
    )
    return `<tr><td><code>${status}</code></td><td>${rich(when)}</td><td>${bodies.join('<br>')}</td></tr>`
  })
  const named = parameters.map(({ name, description: meaning }) => `<p><code>${escapeHtml(name)}</code>: ${rich(meaning)}</p>`)
  return `<section id="${operationId}"><h3>${badge(method)} <code>${escapeHtml(path)}</code></h3><p>${rich(summary)}. ${rich(description)}</p>
${named.join('')}<pre>${escapeHtml(curl(path, method, body))}</pre>
${body === undefined ? '' : `<p>Body: ${bodyLink(body.schema) || 'the file'}</p>`}
<table><thead><tr><th>Status</th><th>When</th><th>Body</th></tr></thead><tbody>${answers.join('')}</tbody></table></section>`
}

/** A request that can be pasted into a shell. */
function curl(path: string, method: string, body: Content | undefined): string {
  const examples: Readonly<Record<string, string>> = {
    id: 'text-to-sql',
    name: 'text-to-sql',
    alias: 'stable',
    file: 'adapter_config.json',
  }
  const url = `http://127.0.0.1:8080${path.replace(/\{(\w+)\}/g, (_, name: string) => examples[name] ?? name)}`
  const verb = method === 'get' || (method === 'post' && body !== undefined) ? '' : ` -X ${method.toUpperCase()}`
  if (body?.example === undefined) return `curl ${url}${verb}${fileOptions(path)}`
  const data = JSON.stringify(body.example, undefined, 2).replaceAll("'", "'\\''")
  return `curl ${url}${verb} -H 'content-type: application/json' -d '${data}'`
}

function fileOptions(path: string): string {
  if (path.endsWith('/upload'))
    return [' -F adapter_config.json=@adapter_config.json', '-F adapter_model.safetensors=@adapter_model.safetensors'].join(' ')
  return path.endsWith('/upload/{file}') ? ' -T adapter_config.json' : ''
}

function table(schema: Content['schema']): string {
  const rows = fieldRows(schema).map(
    ({ name, type, isRequired, description }) =>
      `<tr><td><code>${breakable(name)}</code>${isRequired ? ' <b>required</b>' : ''}</td><td>${rich(type)}</td><td>${rich(description)}</td></tr>`,
  )
  if (rows.length === 0) return ''
  return `<table><thead><tr><th>Field</th><th>Type</th><th>Meaning</th></tr></thead><tbody>${rows.join('')}</tbody></table>`
}

function bodyLink(schema: Content['schema']): string {
  const items = schema['items']
  if (typeof items === 'object' && items !== null)
    return `list${schema['maxItems'] === 1 ? ' of one' : ''} ${bodyLink(items as Content['schema'])}`
  const choices = schema['anyOf']
  if (Array.isArray(choices)) return choices.map(bodyLink).join(' or ')
  const { $ref } = schema
  if (typeof $ref !== 'string') return ''
  const name = $ref.slice($ref.lastIndexOf('/') + 1)
  return `<a href="#schema-${name}">${name}</a>`
}

function badge(method: string): string {
  return `<span class="method ${method}">${method.toUpperCase()}</span>`
}

/** A long name may go on in a new line behind a point or an underscore. */
function breakable(name: string): string {
  return escapeHtml(name).replace(/[._]/g, '$&<wbr>')
}

/** Escaped, with what stands in backquotes as code. */
function rich(text: string): string {
  return escapeHtml(text).replace(/`([^`]+)`/g, '<code>$1</code>')
}

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
