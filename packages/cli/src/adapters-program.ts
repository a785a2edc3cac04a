/** The words of `quiver adapters`. */
import type { Command } from 'commander'
import type { AdaptersIo, PublishOptions } from './adapters-command.ts'
import { readConfig } from './config.ts'
import type { Flags } from './given-option.ts'
import type { Surroundings } from './option-schema.ts'

/** @param stdout where answers are written */
export function addAdaptersCommands(program: Command, surroundings: Surroundings, stdout: NodeJS.WritableStream): void {
  const group = program
    .command('adapters')
    .description('the adapters of a running server: lists, publishes and changes them')
    .exitOverride()
  const command = (usage: string, text: string) =>
    group
      .command(usage)
      .description(text)
      .exitOverride()
      .option('--url <address>', "the server's address (default: QUIVER_PORT of this machine)")
      .option('--admin-key <secret>', 'the admin key, or an API key that may administer (QUIVER_ADMIN_KEY)')
  const work = async () => await import('./adapters-command.ts')
  const io = ({ url, adminKey }: Flags): AdaptersIo => {
    const { config } = readConfig({ adminKey }, surroundings)
    return { stdout, fetch, url: url ?? `http://127.0.0.1:${config.port}`, key: config.adminKey }
  }
  command('list [prefix]', 'names, latest versions, aliases and pins').action(async (prefix: string | undefined, flags: Flags) =>
    (await work()).listAdapters(prefix ?? '', io(flags)),
  )
  command('show <name>', 'everything about one, as JSON').action(async (name: string, flags: Flags) =>
    (await work()).showAdapter(name, io(flags)),
  )
  command('publish <name> <source>', 'publishes a folder of this machine, hub:org/name[@revision] or s3://bucket/path')
    .option('--alias <aliases>', 'which aliases shall mean it, joined by commas', 'latest')
    .option('--pin', 'keep it in memory')
    .option('--expected <version>', 'refuse unless the alias names this version now; 0: unless it names none')
    .action(async (name: string, source: string, flags: Flags & PublishOptions) =>
      (await work()).publishAdapter(name, source, flags, io(flags)),
    )
  command('retire <name>', 'takes it out of service')
    .option('--adapter-version <version>', 'only this version')
    .action(async (name: string, flags: Flags) => (await work()).retireAdapter(name, flags['adapterVersion'], io(flags)))
  command('alias <name> <alias> <version>', 'lets an alias mean a version')
    .option('--expected <version>', 'refuse unless the alias names this version now; 0: unless it names none')
    .action(async (name: string, alias: string, version: string, flags: Flags) =>
      (await work()).moveAlias(name, alias, version, flags['expected'], io(flags)),
    )
  command('rollback <name> [alias]', 'lets an alias mean what it meant before').action(
    async (name: string, alias: string | undefined, flags: Flags) => (await work()).rollBack(name, alias, io(flags)),
  )
  command('pin <name>', 'keeps it in the memory of every worker').action(async (name: string, flags: Flags) =>
    (await work()).setPinned(name, true, io(flags)),
  )
  command('unpin <name>', 'lets it go again').action(async (name: string, flags: Flags) =>
    (await work()).setPinned(name, false, io(flags)),
  )
}
