/**
 * Regular expressions from strangers' adapter configs, matched in bounded time.
 *
 * PEFT matches `target_modules`, `exclude_modules` and the keys of `rank_pattern` and `alpha_pattern` with Python's `re`,
 * which backtracks: `(a+)+b` takes time exponential in the text. Here a pattern becomes a small program whose possible
 * positions are all advanced together over the text (Thompson 1968; Cox, "Regular Expression Matching: the Virtual Machine
 * Approach"), so a match costs at most text × program. Greed does not matter to whether a text matches as a whole.
 *
 * Understood with Python's meaning: literals, `.`, `[…]` with ranges and negation, `\d \w \s` and their negations, groups
 * (plain, `?:`, `?P<name>`), `|`, `* + ? {m} {m,} {m,n}` (also lazy), `^ $ \A \Z \b \B`, lookahead `(?=…)` and `(?!…)`.
 * Back-references, lookbehind, inline flags and possessive repeats are refused by name.
 */
import { adapterInvalid, quoted } from './adapter-problem.ts'
import { type PatternNode, parsePattern } from './pattern-syntax.ts'

/** Instructions and syntax nodes of one pattern after its counted repeats are written out. */
const MAX_SIZE = 4_000

type Instruction =
  | { readonly op: 'character'; readonly accepts: (code: number) => boolean }
  | { readonly op: 'split'; readonly first: number; readonly second: number }
  | { readonly op: 'jump'; readonly to: number }
  | { readonly op: 'assert'; readonly holds: (text: string, at: number) => boolean }
  | { readonly op: 'look'; readonly program: Program; readonly negative: boolean }
  | { readonly op: 'match' }
type Program = readonly Instruction[]

/** Steps that all matches of one adapter's patterns may take together; ordinary configs need thousands. */
export class MatchBudget {
  #left: number

  constructor(steps = 1_500_000) {
    this.#left = steps
  }

  spend(): void {
    this.#left -= 1
    if (this.#left < 0)
      throw adapterInvalid('the patterns in adapter_config.json take too long to match: write plain module names')
  }
}

/** A compiled pattern. */
export interface Pattern {
  /** Whether the whole text matches, like Python's `re.fullmatch`. */
  matches(text: string, budget: MatchBudget): boolean
}

/**
 * @param field names the place in the config, for messages
 * @throws ServingError `adapter_invalid` when the pattern is malformed, too big, or uses what is not supported
 * @example compilePattern('.*\\.(q|v)_proj', 'target_modules').matches('model.layers.0.self_attn.q_proj', new MatchBudget())
 */
export function compilePattern(source: string, field: string): Pattern {
  const program: Instruction[] = []
  let size = 0
  const count = (): void => {
    size += 1
    if (size > MAX_SIZE) throw adapterInvalid(`the pattern ${quoted(source)} in ${field} is too big`)
  }
  compileNode(parsePattern(source, field), program, count)
  program.push({ op: 'match' })
  return { matches: (text, budget) => run(program, text, 0, true, budget) }
}

/** Appends the instructions of `node`. `count` is called at every visit, also of empty nodes: `((){99}){99}` costs time too. */
function compileNode(node: PatternNode, program: Instruction[], count: () => void): void {
  count()
  switch (node.kind) {
    case 'character':
      program.push({ op: 'character', accepts: node.accepts })
      return
    case 'assertion':
      program.push({ op: 'assert', holds: node.holds })
      return
    case 'sequence':
      for (const part of node.parts) compileNode(part, program, count)
      return
    case 'choice':
      compileChoice(node.options, program, count)
      return
    case 'repeat':
      compileRepeat(node, program, count)
      return
    case 'look': {
      const inner: Instruction[] = []
      compileNode(node.node, inner, count)
      inner.push({ op: 'match' })
      program.push({ op: 'look', program: inner, negative: node.negative })
    }
  }
}

function compileChoice(options: readonly PatternNode[], program: Instruction[], count: () => void): void {
  const jumps: number[] = []
  for (const [index, option] of options.entries()) {
    if (index === options.length - 1) {
      compileNode(option, program, count)
      break
    }
    const split = program.length
    program.push({ op: 'split', first: split + 1, second: split + 1 })
    compileNode(option, program, count)
    jumps.push(program.length)
    program.push({ op: 'jump', to: 0 })
    program[split] = { op: 'split', first: split + 1, second: program.length }
  }
  for (const jump of jumps) program[jump] = { op: 'jump', to: program.length }
}

function compileRepeat(node: Extract<PatternNode, { kind: 'repeat' }>, program: Instruction[], count: () => void): void {
  for (let i = 0; i < node.least; i++) compileNode(node.node, program, count)
  if (node.most === undefined) {
    const split = program.length
    program.push({ op: 'split', first: split + 1, second: split + 1 })
    compileNode(node.node, program, count)
    program.push({ op: 'jump', to: split })
    program[split] = { op: 'split', first: split + 1, second: program.length }
    return
  }
  const splits: number[] = []
  for (let i = node.least; i < node.most; i++) {
    splits.push(program.length)
    program.push({ op: 'jump', to: 0 })
    compileNode(node.node, program, count)
  }
  for (const split of splits) program[split] = { op: 'split', first: split + 1, second: program.length }
}

/** Advances all positions of the program over the text together. */
function run(program: Program, text: string, start: number, whole: boolean, budget: MatchBudget): boolean {
  let current = new Set<number>()
  if (follow(program, 0, { text, at: start, budget }, current) && (!whole || start === text.length)) return true
  for (let at = start; at < text.length && current.size > 0; at++) {
    const next = new Set<number>()
    const code = text.charCodeAt(at)
    let matched = false
    for (const position of current) {
      budget.spend()
      const instruction = program[position]
      if (instruction?.op === 'character' && instruction.accepts(code)) {
        matched = follow(program, position + 1, { text, at: at + 1, budget }, next) || matched
      }
    }
    if (matched && (!whole || at + 1 === text.length)) return true
    current = next
  }
  return false
}

interface Place {
  readonly text: string
  readonly at: number
  readonly budget: MatchBudget
}

/** Adds every position reachable without reading a character; says whether `match` is among them. */
function follow(program: Program, from: number, place: Place, reached: Set<number>): boolean {
  const open = [from]
  let matched = false
  for (let position = open.pop(); position !== undefined; position = open.pop()) {
    if (reached.has(position)) continue
    place.budget.spend()
    reached.add(position)
    const instruction = program[position]
    if (instruction === undefined || instruction.op === 'character') continue
    if (instruction.op === 'match') matched = true
    else if (instruction.op === 'jump') open.push(instruction.to)
    else if (instruction.op === 'split') open.push(instruction.second, instruction.first)
    else if (holds(instruction, place)) open.push(position + 1)
  }
  return matched
}

function holds(instruction: Extract<Instruction, { op: 'assert' | 'look' }>, { text, at, budget }: Place): boolean {
  if (instruction.op === 'assert') return instruction.holds(text, at)
  return run(instruction.program, text, at, false, budget) !== instruction.negative
}
