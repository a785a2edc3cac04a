/** The operators read QUIVER_LORA_ISA from the true environment, when a session is made: only for processes of their own. */
import { openOperator } from '../../packages/worker/src/engine/onnx/operator-library.ts'

const instructionSets = ['avx512', 'avx2', 'neon', 'scalar'] as const

/** Those that this processor has, the newest first. */
export function setsHere(library: string): string[] {
  return instructionSets.filter((set) =>
    withSet(set, () => {
      try {
        return openOperator(library).name === `host-${set}`
      } catch {
        // Not here.
        return false
      }
    }),
  )
}

/** What is opened in `open` computes by this instruction set. */
export function withSet<T>(set: string, open: () => T): T {
  process.env['QUIVER_LORA_ISA'] = set
  return open()
}
