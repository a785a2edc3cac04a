import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** What the program itself holds, in bytes, typed arrays included: after everything that nobody holds was collected. */
export async function heapBytes(): Promise<number> {
  setFlagsFromString('--expose-gc')
  const collect: unknown = runInNewContext('gc')
  for (let round = 0; round < 2; round += 1) {
    if (typeof collect === 'function') collect()
    await new Promise(setImmediate)
  }
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
