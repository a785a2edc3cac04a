import { z } from 'zod'

/** What a token for the hub may be: text that can stand in a header. A refusal never repeats it. */
export const hubTokenSchema = z
  .string()
  .regex(/^[\x21-\x7e]{1,512}$/, { error: 'must be 1 to 512 printable ASCII characters without spaces' })
