/** The operators' library under the compiler's checkers of addresses and of undefined behaviour. */
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { builtOperator } from './operator-under-test.ts'

/** -O1: the compiler takes four times as long for checked code at -O3. */
const checkers = ['-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=undefined', '-g1']

/** Its path; '' where there is no compiler. */
export async function checkedBuild(): Promise<string> {
  return (await builtOperator(checkers)) ?? ''
}

/** Where the checkers' own libraries are; they must be there before the process's first allocation. '' where there are none. */
export function checkerLibraries(): string {
  return ['libasan.so', 'libubsan.so']
    .map((name) => spawnSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).stdout?.trim() ?? '')
    .filter((file) => path.isAbsolute(file))
    .join(':')
}
