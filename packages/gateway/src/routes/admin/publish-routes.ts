/** `POST /admin/adapters` and uploads. */

import { MAX_CONFIG_BYTES } from '@quiver/cache/format'
import type { AdapterSource } from '@quiver/cache/origin'
import { ServingError } from '@quiver/protocol'
import type { Published } from '../../catalogue/publish.ts'
import { publishedAnswer } from './admin-answers.ts'
import { type AdminHandler, type AdminRequest, nameOf } from './admin-deps.ts'
import { parseAs, publishSchema, uploadFieldsSchema, uploadQuerySchema } from './admin-schema.ts'
import { CONFIG_FILE, readFileBody, readUploadForm, WEIGHTS_FILE } from './upload-form.ts'
import { UploadSessions } from './upload-sessions.ts'
import { wishesOf, wishesOfTexts } from './wishes.ts'

export const publishFromSource: AdminHandler = async (request) => {
  const { name, source, ...wished } = parseAs(publishSchema, await request.json())
  const wishes = wishesOf(name, wished, request.caller)
  needSource(source, request)
  return answerPublished(request, await request.registrar.register(source, wishes, request.exchange.signal))
}

export const publishUpload: AdminHandler = async (request) => {
  const name = nameOf(request)
  const { signal } = request.exchange
  const { base } = parseAs(uploadQuerySchema, request.query)
  const published = await request.registrar.publish({ name, base }, signal, async (limits) => {
    const { files, fields } = await readUploadForm(request.incoming, limits, signal)
    return { files, wishes: wishesOfTexts(name, fields, request.caller) }
  })
  return answerPublished(request, published)
}

/** First the config, which opens a session, then the weights, which end it. */
export const publishFile: AdminHandler = async (request) => {
  const file = request.param('file')
  if (file === CONFIG_FILE) return await takeConfig(request)
  if (file === WEIGHTS_FILE) return await takeWeights(request)
  throw new ServingError('not_found', `There is no such route: the files of an upload are ${CONFIG_FILE} and ${WEIGHTS_FILE}`)
}

async function takeConfig(request: AdminRequest): Promise<Response> {
  const { incoming, exchange, caller } = request
  const name = nameOf(request)
  const config = await readFileBody(incoming, { name: CONFIG_FILE, maxBytes: MAX_CONFIG_BYTES, signal: exchange.signal })
  const session = await new UploadSessions(request).open({ name, tenant: caller.tenant }, config)
  return request.answer({
    session,
    next: `/admin/adapters/${encodeURIComponent(name)}/upload/${WEIGHTS_FILE}?session=${session}`,
  })
}

async function takeWeights(request: AdminRequest): Promise<Response> {
  const { incoming, exchange, caller } = request
  const name = nameOf(request)
  const fields = parseAs(uploadFieldsSchema, request.query)
  const { session = '' } = fields
  const wishes = wishesOfTexts(name, fields, caller)
  const sessions = new UploadSessions(request)
  const config = await sessions.configOf({ name, tenant: caller.tenant }, session)
  const published = await request.registrar.publish(wishes, exchange.signal, async ({ maxWeightsBytes }) => {
    const weights = await readFileBody(incoming, { name: WEIGHTS_FILE, maxBytes: maxWeightsBytes, signal: exchange.signal })
    return { wishes, files: { config, weights, source: { type: 'upload' } } }
  })
  await sessions.close(session)
  return answerPublished(request, published)
}

function answerPublished(request: AdminRequest, published: Published): Response {
  const { name } = published.manifest
  // A pinned name's alias may mean another version now.
  void request.pins.keep()
  return request.answer(publishedAnswer(published, request.catalogue.entry(name)), {
    status: published.isNew ? 201 : 200,
    location: `/admin/adapters/${encodeURIComponent(name)}`,
  })
}

/** What lies in the store may be another tenant's. @throws ServingError `missing_right` */
function needSource(source: AdapterSource, { caller }: AdminRequest): void {
  if (source.type !== 'store' || caller.isOperator === true) return
  throw new ServingError('missing_right', 'Only an operator may publish from the store: name a hub id, a bucket or a folder')
}
