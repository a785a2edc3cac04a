/** What a publisher wishes, in the words of registration, and what it may not wish. */
import { parseAdapterName, ServingError } from '@quiver/protocol'
import type { Caller } from '../../auth/guard.ts'
import type { Actor } from '../../catalogue/audit-event.ts'
import type { Editing } from '../../catalogue/catalogue-editor.ts'
import { metadataSchema } from '../../catalogue/provenance.ts'
import type { Wishes } from '../../registration/adapter-registrar.ts'
import { parseAs, type UploadFields } from './admin-schema.ts'

interface Wished {
  readonly alias?: string | readonly string[] | undefined
  readonly pin?: boolean | undefined
  readonly metadata?: Readonly<Record<string, string>> | undefined
  readonly expected?: number | undefined
  readonly base?: string | undefined
  readonly tenant?: string | undefined
}

/**
 * A tenant's own adapters are its own: nobody else sees them. An operator's are everybody's unless it names a tenant.
 * @throws ServingError `invalid_request` for what is no name, `missing_right` for a tenant that names another
 */
export function wishesOf(name: string, wished: Wished, caller: Caller): Wishes {
  const { alias, pin, metadata, expected, base, tenant } = wished
  if (tenant !== undefined && caller.isOperator !== true && tenant !== caller.tenant) {
    throw new ServingError('missing_right', 'This API key publishes for its own tenant alone: leave `tenant` out')
  }
  const owner = caller.isOperator === true ? tenant : caller.tenant
  return {
    name: parseAdapterName(name),
    ...(alias === undefined ? {} : { aliases: [alias].flat() }),
    pin,
    metadata,
    expected,
    base,
    tenant: owner,
    actor: actorOf(caller),
  }
}

/** Of a form or a query, where everything is text. @throws ServingError as `wishesOf`, `invalid_parameters` */
export function wishesOfTexts(name: string, fields: UploadFields, caller: Caller): Wishes {
  const { alias, pin, metadata, expected, base, tenant } = fields
  const wished = {
    // Several are joined by commas, which no alias has.
    ...(alias === undefined ? {} : { alias: alias === '' ? [] : alias.split(',') }),
    ...(pin === undefined ? {} : { pin: pin === 'true' }),
    ...(metadata === undefined ? {} : { metadata: parseAs(metadataSchema, jsonOf(metadata)) }),
    ...(expected === undefined ? {} : { expected: Number(expected) }),
    base,
    tenant,
  }
  return wishesOf(name, wished, caller)
}

export function actorOf({ tenant, keyId }: Caller): Actor {
  return { tenant, ...(keyId === undefined ? {} : { keyId }) }
}

export function editingOf(caller: Caller): Editing {
  return { actor: actorOf(caller), ...(caller.isOperator === true ? {} : { viewer: { tenant: caller.tenant } }) }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new ServingError('invalid_parameters', '`metadata` must be a JSON object of texts')
  }
}
