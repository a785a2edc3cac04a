import { ServingError, type WorkerInfo } from '@quiver/protocol'
import type { CatalogueView } from '../../catalogue/catalogue.ts'

/** What clients send that have to name a model and know none: huggingface_hub and those made for TGI. */
const BASE_NAMES: ReadonlySet<string> = new Set(['', 'dummy', 'tgi'])

/**
 * @param model what a request calls its model
 * @returns the id of an adapter, or undefined for the base model
 * @throws ServingError `adapter_not_found` for a name of the catalogue's that it does not have, or that can be none
 */
export function adapterIdOf(
  model: string,
  { info, catalogue, isInCatalogue }: { info: WorkerInfo; catalogue: Pick<CatalogueView, 'resolve'>; isInCatalogue: boolean },
): string | undefined {
  if (BASE_NAMES.has(model) || model === info.model.id) return undefined
  if (!isInCatalogue) return model
  try {
    catalogue.resolve(model)
    return model
  } catch (error) {
    if (!(error instanceof ServingError) || (error.code !== 'invalid_request' && error.code !== 'adapter_not_found')) throw error
    throw new ServingError(
      'adapter_not_found',
      `The model ${JSON.stringify(model.slice(0, 200))} does not exist: ${error.message}`,
      {
        param: 'model',
      },
    )
  }
}
