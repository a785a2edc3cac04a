/** The tiny random models of test/fixtures/models, with the logits that transformers gives for them (scripts/make-tiny-models.py). */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { z } from 'zod'
import { type LoadedModel, openLocalModel } from '../../packages/worker/src/model/loaded-model.ts'

export const tinyModelsFolder: string = path.join(import.meta.dirname, '../fixtures/models')

export interface TinyModel {
  readonly name: string
  /** Where its GGUF file or its folder is. */
  readonly path: string
  readonly family: string
  readonly vocabSize: number
  readonly promptIds: readonly number[]
  /** float32 logits of every position of the prompt, [promptIds.length, vocabSize]. */
  logits(): Float32Array
  /** Close its `weights` after use. */
  open(): Promise<LoadedModel>
}

const indexSchema = z.array(
  z.object({ name: z.string(), path: z.string(), family: z.string(), vocabSize: z.int(), promptIds: z.array(z.int()) }),
)

export const tinyModels: readonly TinyModel[] = indexSchema
  .parse(JSON.parse(readFileSync(path.join(tinyModelsFolder, 'index.json'), 'utf8')))
  .map((entry) => {
    const location = path.join(tinyModelsFolder, entry.path)
    return {
      ...entry,
      path: location,
      logits: () => readFloats(path.join(tinyModelsFolder, entry.name, 'logits.bin')),
      open: () => openLocalModel({ path: location, id: entry.name }),
    }
  })

/** @throws Error when there is no such model */
export function tinyModel(name: string): TinyModel {
  const found = tinyModels.find((model) => model.name === name)
  if (found === undefined) throw new Error(`no tiny model ${name}; there are ${tinyModels.map((model) => model.name).join(', ')}`)
  return found
}

/** A file of little-endian float32 values. */
export function readFloats(file: string): Float32Array {
  const bytes = readFileSync(file)
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
}
