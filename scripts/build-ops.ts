/**
 * `npm run build:ops`: compiles quiver::Lora for this machine into the cache that `npm start` looks in, or says why not.
 *
 * `npm run build:ops -- --pack FOLDER` makes an npm package with the library in FOLDER instead: optional packages of this kind
 * spare their users the compiler. Nothing is published.
 */
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { availableParallelism, homedir } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { ServingError } from '@quiver/protocol'
import manifest from '../package.json' with { type: 'json' }
import { readConfig } from '../packages/cli/src/config.ts'
import { buildOperator, libraryName } from '../packages/worker/src/engine/onnx/operator-build.ts'
import { openOperator, operatorPackage } from '../packages/worker/src/engine/onnx/operator-library.ts'
import { createProcessRunner } from '../packages/worker/src/model/process-runner.ts'

const root = path.join(import.meta.dirname, '..')
/** So that the library runs where the C++ runtime is older or missing. */
const portableFlags = ['-static-libstdc++', '-static-libgcc']

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { pack: { type: 'string' } } })
  const processors = availableParallelism()
  const { config } = readConfig({}, { env: process.env, cwd: process.cwd(), home: homedir(), processors })
  const built = await buildOperator({
    kernelsDir: path.join(root, 'kernels'),
    cacheDir: path.join(config.cache, 'operators'),
    arch: process.arch,
    jobs: processors,
    extraFlags: values.pack === undefined ? [] : portableFlags,
    runProcess: createProcessRunner(process.env),
    signal: new AbortController().signal,
    onCompile: (done, total) => process.stderr.write(`compiled ${done} of ${total}\n`),
  })
  const library = openOperator(built)
  if (values.pack !== undefined) await pack(library.path, path.resolve(values.pack))
  process.stdout.write(`${library.name}: ${values.pack === undefined ? library.path : path.resolve(values.pack)}\n`)
}

async function pack(library: string, folder: string): Promise<void> {
  const name = operatorPackage(process)
  await mkdir(folder, { recursive: true })
  await copyFile(library, path.join(folder, libraryName))
  await copyFile(path.join(root, 'LICENSE'), path.join(folder, 'LICENSE'))
  const description = `quiver::Lora, compiled for ${process.platform} on ${process.arch}`
  await writeFile(
    path.join(folder, 'package.json'),
    `${JSON.stringify(
      {
        name,
        version: manifest.version,
        description,
        license: manifest.license,
        os: [process.platform],
        cpu: [process.arch],
        ...(process.platform === 'linux' ? { libc: ['glibc'] } : {}),
        files: [libraryName],
      },
      undefined,
      2,
    )}\n`,
  )
  await writeFile(path.join(folder, 'README.md'), `# ${name}\n\n${description}. Quiver finds it by its name.\n`)
}

try {
  await main()
} catch (error) {
  if (!(error instanceof ServingError)) throw error
  process.stderr.write(`build:ops: ${error.message}\n`)
  process.exitCode = 1
}
