import { ServingError } from '@quiver/protocol'

/**
 * What an engine throws when it can never compute again, such as when a GPU's context is lost: nothing of it may be used any more,
 * so the process ends and starts clean.
 */
export class EngineBroken extends ServingError {
  constructor(message: string, context: Readonly<Record<string, string | number>> = {}) {
    super('internal', message, context)
  }
}
