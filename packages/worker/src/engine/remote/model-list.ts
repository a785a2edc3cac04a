/** What a server says that it serves: base models, and the adapters that it holds, in one list as vLLM and SGLang tell it. */
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'
import { type RemoteHttp, reasonOf } from './remote-http.ts'
import { questionMs } from './remote-server.ts'

const modelSchema = z.object({
  id: z.string(),
  /** Where the server has it from. */
  root: z.string().nullish(),
  /** Of an adapter: its base model. */
  parent: z.string().nullish(),
  max_model_len: z.int().positive().nullish(),
})
const modelsSchema = z.object({ data: z.array(modelSchema) })
export type ListedModel = z.infer<typeof modelSchema>

/** @throws ServingError `worker_lost` when the server does not tell */
export async function listedModels(http: RemoteHttp): Promise<readonly ListedModel[]> {
  const answer = await http.ask('/v1/models', { timeoutMs: questionMs })
  const models = modelsSchema.safeParse(answer.body)
  if (answer.status !== 200 || !models.success) throw http.lost(`/v1/models answered ${reasonOf(answer)}`)
  return models.data.data
}

export function adapterNames(models: readonly ListedModel[]): readonly string[] {
  return models.filter(({ parent }) => typeof parent === 'string').map(({ id }) => id)
}

/** The base model that is meant. @throws ServingError `invalid_request` naming those that there are */
export function servedModel(models: readonly ListedModel[], named: string, url: string): ListedModel {
  const bases = models.filter(({ parent }) => parent === null || parent === undefined)
  const found = named === '' ? bases : bases.filter(({ id }) => id === named)
  const [only, ...more] = found
  if (only !== undefined && more.length === 0) return only
  const names = bases.map(({ id }) => JSON.stringify(id)).join(', ')
  const which = named === '' ? 'one of several models: name it with --remote-model' : `no model ${JSON.stringify(named)}`
  throw new ServingError('invalid_request', `the server at ${url} serves ${which}. It has ${names === '' ? 'none' : names}`)
}
