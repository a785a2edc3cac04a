/** `quiver cuda`: what a GPU needs beside its driver. */
import type { Command } from 'commander'
import { readConfig } from './config.ts'
import type { Flags } from './given-option.ts'
import type { Surroundings } from './option-schema.ts'

export function addCudaCommands(program: Command, surroundings: Surroundings): void {
  const group = program.command('cuda').description('what a GPU needs beside its driver').exitOverride()
  group
    .command('install')
    .description("downloads ONNX Runtime's CUDA provider and NVIDIA's libraries into the cache, by pip; what is there stays")
    .exitOverride()
    .option('--cache <folder>', 'where models, graphs and packages are cached (QUIVER_CACHE)')
    .option('--python <command>', 'Python with pip (QUIVER_PYTHON)')
    .action(async (flags: Flags) => {
      const { cache, python } = flags
      const { config } = readConfig({ ...(cache && { cache }), ...(python && { python }) }, surroundings)
      await (await import('./cuda-command.ts')).installCudaPackages(config, { stdout: process.stdout })
    })
}
