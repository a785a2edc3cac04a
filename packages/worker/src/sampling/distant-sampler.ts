import assert from 'node:assert/strict'
import type { Sampler } from './sampler.ts'

/** Stands for a sampler where a server chooses the tokens: it knows the seed alone, and that only where the server keeps to it. */
export function distantSampler({ seed }: Sampler, { keepsSeeds }: { readonly keepsSeeds: boolean }): Sampler {
  return {
    seed: keepsSeeds ? seed : undefined,
    choose: () => assert.fail('the tokens are chosen elsewhere'),
    accept: () => {},
  }
}
