/** The commands, and what each prints when it cannot do its work. */
import { availableParallelism, homedir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { type Logger, ServingError } from '@quiver/protocol'
import { Command, CommanderError, Option } from 'commander'
import manifest from '../package.json' with { type: 'json' }
import { addAdaptersCommands } from './adapters-program.ts'
import { optionText, type ReadConfig, readConfig } from './config.ts'
import { addCudaCommands } from './cuda-program.ts'
import type { Flags } from './given-option.ts'
import type { WantedKey } from './keys-command.ts'
import { unusedNames } from './launcher-names.ts'
import { lineLogger } from './line-logger.ts'
import { optionKeys, optionNames } from './option-names.ts'
import type { Surroundings } from './option-schema.ts'

const EXIT_USAGE = 2
const EXIT_FAILED = 1

/** Keys of options that concern only gateways and workers that are started by themselves. */
const apartOnly = new Set(['workers', 'drainDelayMs', 'processes', 'workerHost', 'workerPort', 'workerAddress', 'workerToken'])

/** Runs one command to its end and ends the process with its exit code. */
export async function runProgram(args: readonly string[]): Promise<void> {
  // What a child of `serve` says stands between its parent's words to a newcomer: only what matters.
  const log = lineLogger(process.stderr, () => new Date(), process.send === undefined ? 'info' : 'warn')
  process.exit(await exitCodeOf(args, log))
}

async function exitCodeOf(args: readonly string[], log: Logger): Promise<number> {
  let exitCode = 0
  const program = new Command('quiver')
    .description('Serves one base model with many LoRA adapters.')
    .version(manifest.version)
    .exitOverride()
    .configureHelp({ helpWidth: 110 })
  const surroundings: Surroundings = {
    env: process.env,
    cwd: process.cwd(),
    home: homedir(),
    processors: availableParallelism(),
  }
  const command = (name: string, text: string, run: (read: ReadConfig) => Promise<number>) => {
    const added = program.command(name).description(text).exitOverride().configureHelp({ helpWidth: 110 })
    addOptions(added, surroundings, name === 'serve')
    added.action(async (flags: Flags) => {
      exitCode = await run(readConfig(flags, surroundings))
    })
  }
  command('serve', 'gateway and worker on this machine, with everything they need', async ({ config, notices }) => {
    for (const notice of notices) process.stderr.write(`${notice}\n`)
    const { serve } = await import('./serve.ts')
    return serve(config, {
      stdout: process.stdout,
      stderr: process.stderr,
      log,
      mainModule: fileURLToPath(new URL('./main.ts', import.meta.url)),
      exampleFolder: fileURLToPath(new URL('../../../examples/adapters', import.meta.url)),
      isUnderNpm: surroundings.env['npm_lifecycle_event'] !== undefined,
    })
  })
  command('gateway', 'a gateway alone, for workers elsewhere', async ({ config, notices }) => {
    for (const notice of notices) process.stderr.write(`${notice}\n`)
    const { runGatewayProcesses } = await import('./gateway-processes.ts')
    return runGatewayProcesses(config, { stdout: process.stdout, stderr: process.stderr, log, env: surroundings.env })
  })
  command('worker', 'a worker alone, for a gateway elsewhere', async ({ config }) => {
    const { runWorker } = await import('./worker-command.ts')
    return runWorker(config, surroundings.home, log)
  })
  command('config', 'prints every setting, its value and where that comes from', async (read) => {
    process.stdout.write(configText(read))
    return 0
  })
  addKeysCommands(program, surroundings)
  addCudaCommands(program, surroundings)
  addAdaptersCommands(program, surroundings, process.stdout)
  try {
    await program.parseAsync([...args], { from: 'user' })
    return exitCode
  } catch (error) {
    return exitCodeFor(error, log)
  }
}

function addKeysCommands(program: Command, surroundings: Surroundings): void {
  const io = { stdout: process.stdout, stderr: process.stderr, now: () => new Date() }
  const group = program.command('keys').description('API keys: makes, lists and revokes them').exitOverride()
  const command = (usage: string, text: string) =>
    group.command(usage).description(text).exitOverride().option('--keys <file>', 'file of API keys (QUIVER_KEYS)')
  const fileOf = ({ keys }: Flags) => readConfig({ keys }, surroundings).config.keys
  command('create', 'adds a key and prints its secret, for the only time')
    .requiredOption('--tenant <name>', 'whose key it is')
    .option('--rights <list>', 'generate, publish, admin; several are joined by commas', 'generate')
    .option('--weight <number>', "the tenant's share of a worker beside other tenants, 1 unless said")
    .option('--priority <name>', 'highest priority of its requests: low, normal or high; any unless said')
    .action(async (flags: Flags & WantedKey) => (await import('./keys-command.ts')).createKey(fileOf(flags), flags, io))
  command('list', 'prints id, tenant, rights and date of each key').action(async (flags: Flags) =>
    (await import('./keys-command.ts')).listKeys(fileOf(flags), io),
  )
  command('revoke <id>', 'makes a key wrong from the next request on').action(async (id: string, flags: Flags) =>
    (await import('./keys-command.ts')).revokeKey(fileOf(flags), id, io),
  )
}

function addOptions(command: Command, surroundings: Surroundings, isServe: boolean): void {
  const { config } = readConfig({}, { ...surroundings, env: {} })
  for (const key of optionKeys) {
    if (isServe && apartOnly.has(key)) continue
    const names = optionNames[key]
    const value = optionText(config, key)
    const theirs = [...(names.theirs?.flags ?? []).map((flag) => `--${flag}`), ...(names.theirs?.env ?? [])]
    const more = [names.env, ...theirs, ...(value === '' || key === 'store' ? [] : [`default ${value}`])].join(', ')
    const option = new Option(`--${names.flag} <${names.value}>`, `${names.help} (${more})`)
    // One worker each time, or several at once.
    if (key === 'workers')
      option.argParser((text, before: string | undefined) => (before === undefined ? text : `${before},${text}`))
    command.addOption(option)
    for (const flag of names.theirs?.flags ?? []) {
      const option = new Option(`--${flag} <${names.value}>`).hideHelp()
      command.addOption(names.isRepeated === true ? option.argParser(joined) : option)
    }
  }
  for (const { flag } of unusedNames) command.addOption(new Option(`--${flag} <value>`).hideHelp())
}

/** A flag that stands there twice is as one with both values. */
function joined(value: string, before: string | undefined): string {
  return before === undefined ? value : `${before},${value}`
}

function configText({ config, origins, givenBy, notices }: ReadConfig): string {
  const lines = optionKeys.map((key) => {
    const { env, isSecret } = optionNames[key]
    const value = optionText(config, key)
    const name = givenBy[key]
    const by = name === undefined || name === env ? '' : ` ${name}`
    return `${env}=${isSecret && value !== '' ? '(hidden)' : value}  # ${origins[key]}${by}`
  })
  lines.push(
    "# A flag wins over the environment; ours, QUIVER_*, wins over TGI's and LoRAX's names; both win over the default.",
    ...notices.map((notice) => `# ${notice}`),
  )
  return `${lines.join('\n')}\n`
}

function exitCodeFor(error: unknown, log: Logger): number {
  // Commander has written its own line already.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE
  if (error instanceof ServingError && error.code !== 'internal') {
    process.stderr.write(`quiver: ${error.message}\n`)
    return error.context['usage'] === undefined ? EXIT_FAILED : EXIT_USAGE
  }
  const cause = error instanceof ServingError ? (error.cause ?? error) : error
  log('error', 'something went wrong inside quiver', {
    cause: cause instanceof Error ? (cause.stack ?? cause.message) : String(cause),
  })
  return EXIT_FAILED
}
