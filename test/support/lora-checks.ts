/** The named checks of test/kernels/cuda/lora-check.cu, and what each promises of the CUDA kernels. */
export const loraChecks = [
  ['edges', 'is right around the edges of tiles, splits and parts'],
  ['company', 'gives a row the same result alone and in company'],
  ['contained', 'takes slots and ranks that do not exist for none'],
  ['nans', 'keeps a NaN in its row, or in the rows of its adapter'],
  ['large', 'shares out sums that half cannot hold, and is infinite beyond that'],
  ['graph', 'can be captured in a graph'],
  ['plan', 'plans every row once, under its slot'],
  ['refusals', 'refuses malformed arguments with a sentence, and touches nothing'],
] as const

/** From the project's root. */
export const loraCheckSources = ['test/kernels/cuda/lora-check.cu', 'kernels/cuda/lora.cu'] as const
