import { strict as assert } from 'node:assert'
import type { Tokenizer } from '../../packages/worker/src/tokenizer/tokenizer.ts'
import { drawBelow, type Random, shuffled } from '../shared/random.ts'

const words =
  'time year people way day man thing woman life child world school state family student group country problem hand part place case week company system program question work government number night point home water room mother area money story fact month lot right study book eye job word business issue side kind head house service friend father power hour game line end member law car city community name'.split(
    ' ',
  )

/** Different texts of exactly so many tokens, unlike from the first word on: what one has computed helps no other. */
export class Prompts {
  readonly #tokenizer: Pick<Tokenizer, 'encode'>
  readonly #random: Random

  constructor(tokenizer: Pick<Tokenizer, 'encode'>, random: Random) {
    this.#tokenizer = tokenizer
    this.#random = random
  }

  next(tokens: number): { readonly prompt: string; readonly promptIds: readonly number[] } {
    let prompt = ''
    const longerBy = (word: string) => (prompt === '' ? word : `${prompt} ${word}`)
    for (;;) {
      const next = longerBy(words[drawBelow(this.#random, words.length)] ?? '')
      if (this.#tokenizer.encode(next).length >= tokens) break
      prompt = next
    }
    // A word is one token or more: the last one is whichever makes the length.
    for (const word of shuffled(words, this.#random)) {
      const promptIds = this.#tokenizer.encode(longerBy(word))
      if (promptIds.length === tokens) return { prompt: longerBy(word), promptIds }
    }
    assert.fail(`the model's tokenizer makes no prompt of ${tokens} tokens from plain words`)
  }
}
