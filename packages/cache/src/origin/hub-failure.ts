import { ServingError } from '@quiver/protocol'

/**
 * What the hub said, in the words of somebody who asked for an adapter. Whether a repository is private or not there is not told
 * apart, as on the hub itself; the hub's address stays in the log.
 * @param said the repository and revision, quoted
 */
export function hubFailure(thrown: unknown, said: string): unknown {
  if (!(thrown instanceof ServingError)) return thrown
  const rewrite = (code: ServingError['code'], message: string) =>
    new ServingError(code, message, { ...thrown.context, reason: thrown.message }, { cause: thrown })
  switch (thrown.code) {
    case 'unauthenticated':
    case 'not_found':
      return rewrite(
        'adapter_not_found',
        `there is no adapter ${said} on the hub that this request may read: check its name and revision; a private one needs an api_token that may read it, and a wrong token may read nothing`,
      )
    case 'forbidden':
      return rewrite(
        'forbidden',
        `access to the adapter ${said} is restricted on the hub: accept its terms there, and send a token of that account as api_token`,
      )
    case 'source_unavailable':
      return rewrite('source_unavailable', `the adapter ${said} could not be read from the hub: try again in a moment`)
    default:
      return thrown
  }
}
