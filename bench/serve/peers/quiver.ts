import path from 'node:path'
import { ServingError } from '@quiver/protocol'
import { z } from 'zod'
import type { Contestant } from '../contestant.ts'
import { postStreamed } from '../streamed.ts'

const eventSchema = z.union([z.object({ token: z.object({ id: z.int() }) }), z.object({ error: z.string() })])

export interface QuiverServer {
  readonly url: string
  readonly version: string
  /** Names of the load's adapters. */
  readonly adapters: readonly string[]
  readonly source: 'local' | 'store'
  /** Shown with every request where there are keys. */
  readonly key?: string
}

/** Quiver over HTTP, through gateway and worker. */
export function quiverContestant({ url, version, adapters, source, key }: QuiverServer): Contestant {
  return {
    id: 'quiver',
    title: 'Quiver',
    version,
    hasOneAdapter: false,
    stream: ({ prompt, newTokens, adapter }) =>
      postStreamed(
        `${url}/generate_stream`,
        {
          inputs: prompt,
          parameters: {
            max_new_tokens: newTokens,
            ignore_eos_token: true,
            ...(adapter === undefined ? {} : { adapter_id: adapters[adapter], adapter_source: source }),
          },
        },
        { newTokens, key },
        (data) => {
          const event = eventSchema.parse(JSON.parse(data))
          if ('error' in event) throw new ServingError('internal', `the stream ended with: ${event.error}`)
          return 1
        },
      ),
  }
}

export function folderNames(folders: readonly string[]): string[] {
  return folders.map((folder) => path.basename(folder))
}
