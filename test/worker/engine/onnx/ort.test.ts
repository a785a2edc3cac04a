/** What happens to a worker whose ONNX Runtime is not there, is something else, or is of another version. */
import { spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadOnnxRuntime } from '../../../../packages/worker/src/engine/onnx/ort.ts'
import { refusal } from '../../../support/refusal.ts'
import { temporaryFolder } from '../../../support/temporary-folder.ts'

const load = (library: string) => refusal(async () => loadOnnxRuntime({ library }))

async function compiled(code: string): Promise<string> {
  const folder = await temporaryFolder()
  const [source, library] = [join(folder, 'ort.c'), join(folder, 'libonnxruntime.so')]
  await writeFile(source, code)
  const made = spawnSync('cc', ['-shared', '-fPIC', '-o', library, source], { encoding: 'utf8' })
  if (made.status !== 0) throw new Error(made.stderr)
  return library
}

/** A library that answers as one of this version does; the table of functions is there only where the version has it. */
const pretending = (version: string, hasTable: boolean) =>
  compiled(`static const void *table[512];
static const void *api(unsigned version) { return ${hasTable ? 'version == 20 ? table : 0' : '0'}; }
static const char *name(void) { return "${version}"; }
static const struct { const void *(*api)(unsigned); const char *(*name)(void); } base = { api, name };
const void *OrtGetApiBase(void) { return &base; }
`)

const hasCompiler = spawnSync('cc', ['--version']).status === 0

describe('a start without the right ONNX Runtime', () => {
  it('W07 names the file that is missing, and what to do', async () => {
    const path = join(await temporaryFolder(), 'libonnxruntime.so.1')
    const error = await load(path)
    expect(error.code).toBe('source_unavailable')
    expect(error.message).toMatch(new RegExp(`^ONNX Runtime cannot be loaded from ${path} \\(.+\\): run \`npm ci\``))
  })

  it('W07 refuses a file that is no library', async () => {
    const path = join(await temporaryFolder(), 'libonnxruntime.so.1')
    await writeFile(path, 'half of a download')
    expect((await load(path)).message).toContain(`cannot be loaded from ${path} (`)
  })

  it.skipIf(!hasCompiler)('W07 refuses a library that is another one', async () => {
    const error = await load(await compiled('int something(void) { return 0; }'))
    expect([error.code, error.message.includes('OrtGetApiBase')]).toEqual(['source_unavailable', true])
  })

  it.skipIf(!hasCompiler).each([
    ['1.15.1', false],
    ['1.15.1', true],
    ['2.0.0', true],
    ['1.24.0', false],
  ])('W07 refuses version %s by its name before it calls anything (table: %s)', async (version, hasTable) => {
    const library = await pretending(version, hasTable)
    const error = await load(library)
    expect([error.code, error.message]).toEqual([
      'source_unavailable',
      `ONNX Runtime ${version} in ${library} is not supported: this build needs 1.20 or newer; run \`npm ci\``,
    ])
  })
})
