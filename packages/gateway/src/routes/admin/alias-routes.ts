/** What a name's aliases mean. */
import type { AliasEditing } from '../../catalogue/catalogue-editor.ts'
import type { NameEntry } from '../../catalogue/name-entry.ts'
import { answerEntry } from './adapter-routes.ts'
import { type AdminHandler, type AdminRequest, editorOf, nameOf } from './admin-deps.ts'
import { aliasQuerySchema, aliasSchema, canarySchema, parseAs, rollbackSchema } from './admin-schema.ts'
import { editingOf } from './wishes.ts'

export const moveAlias: AdminHandler = async (request) => {
  const { version, expected } = parseAs(aliasSchema, await request.json())
  const alias = request.param('alias')
  return await moved(request, await editorOf(request).moveAlias(nameOf(request), alias, version, editing(request, expected)))
}

export const removeAlias: AdminHandler = async (request) => {
  const { expected } = parseAs(aliasQuerySchema.omit({ alias: true }), request.query)
  return await moved(
    request,
    await editorOf(request).removeAlias(nameOf(request), request.param('alias'), editing(request, expected)),
  )
}

export const setCanary: AdminHandler = async (request) => {
  const { version, share_percent: sharePercent, alias, expected } = parseAs(canarySchema, await request.json())
  const wished = { ...editing(request, expected), alias }
  return await moved(request, await editorOf(request).setCanary(nameOf(request), { version, sharePercent }, wished))
}

export const endCanary: AdminHandler = async (request) => {
  const { alias, expected } = parseAs(aliasQuerySchema, request.query)
  return await moved(
    request,
    await editorOf(request).setCanary(nameOf(request), undefined, { ...editing(request, expected), alias }),
  )
}

export const rollBack: AdminHandler = async (request) => {
  const { alias, expected } = parseAs(rollbackSchema, await request.jsonOrNothing())
  return await moved(request, await editorOf(request).rollback(nameOf(request), { ...editing(request, expected), alias }))
}

function editing({ caller }: AdminRequest, expected: number | undefined): AliasEditing {
  return { ...editingOf(caller), expected }
}

async function moved(request: AdminRequest, entry: NameEntry): Promise<Response> {
  // Where the name is pinned, another version is now.
  void request.pins.keep()
  return await answerEntry(request, entry)
}
