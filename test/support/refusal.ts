import { ServingError } from '@quiver/protocol'
import { expect } from 'vitest'

/** Runs `work` and gives the ServingError it must end in. */
export async function refusal(work: () => unknown): Promise<ServingError> {
  let thrown: unknown
  try {
    await work()
  } catch (error) {
    thrown = error
  }
  expect(thrown, 'a ServingError is thrown').toBeInstanceOf(ServingError)
  return thrown as ServingError
}
