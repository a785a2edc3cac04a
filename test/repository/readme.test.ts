/** What the README promises to a newcomer. */
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { optionText, readConfig } from '../../packages/cli/src/config.ts'
import { optionKeys, optionNames } from '../../packages/cli/src/option-names.ts'
import type { ConfigKey, Surroundings } from '../../packages/cli/src/option-schema.ts'
import { codeSpan, readProjectText, tableRows } from '../support/repository.ts'

const readme = readProjectText('README.md')

describe('the two commands', () => {
  const blocks = Array.from(readme.matchAll(/^```sh\n([\s\S]*?)^```/gm), ([, block]) => block?.trim())

  test.each(['npm ci && npm start', 'npm ci && npm test'])('%s stands there by itself', (command) => {
    expect(blocks.filter((block) => block === command)).toHaveLength(1)
  })

  test('are scripts of package.json', () => {
    const { scripts } = z.object({ scripts: z.record(z.string(), z.string()) }).parse(JSON.parse(readProjectText('package.json')))
    expect(scripts['start']).toBe('exec node --max-semi-space-size=8 packages/cli/bin/quiver.js serve')
    expect(scripts['test']).toBe('npm run check && npm run test:all')
  })

  test('are what CI runs, and nothing else', () => {
    const [shebang, ...lines] = readProjectText('.ci/run').trimEnd().split('\n')
    expect(shebang).toMatch(/^#!.*\bbash$/)
    const commands = lines.filter((line) => line !== '' && !line.startsWith('#'))
    expect(commands).toEqual(['set -euo pipefail', 'cd "$(dirname "$0")/.."', 'npm ci', 'npm test'])
  })
})

describe('the table of options', () => {
  const surroundings: Surroundings = { env: {}, cwd: '/here', home: '/home/me', processors: 6 }
  const { config } = readConfig({}, surroundings)
  const rows = tableRows(readme, 'flag', 'environment', 'default', 'unit and range', 'meaning')
  const rowOf = (key: ConfigKey) => rows.find(([flag]) => flag === `\`--${optionNames[key].flag}\``)
  const accepts = (key: ConfigKey, text: string) => {
    try {
      readConfig({}, { ...surroundings, env: { [optionNames[key].env]: text } })
      return true
    } catch {
      return false
    }
  }

  test('has every option in the order of the help, with its variable, and no other', () => {
    expect(rows.map(([flag, env]) => [flag, env])).toEqual(
      optionKeys.map((key) => [`\`--${optionNames[key].flag}\``, `\`${optionNames[key].env}\``]),
    )
  })

  test.each(optionKeys)('says the default of %s', (key) => {
    const said = rowOf(key)?.[2]
    const actual = optionText(config, key).replace('/home/me/', '~/').replace('/here/', './')
    if (key === 'threads') expect([said, actual]).toEqual(['processors of the machine', '6'])
    else if (key === 'store')
      expect([said, actual]).toEqual(['`file:` address of `store` in the data folder', 'file://./quiver-data/store'])
    else if (actual === '') expect(said).toBe('none')
    else expect(codeSpan(said)).toBe(actual)
  })

  test.each(optionKeys)('says the range of %s, and the schema keeps it', (key) => {
    const [, , , unit = '', meaning = ''] = rowOf(key) ?? []
    expect(unit).not.toBe('')
    expect(meaning).not.toBe('')
    const range = /(\d+) to (\d+)/.exec(unit)
    const isNumber = typeof config[key] === 'number'
    expect(range !== null, unit).toBe(isNumber)
    if (range === null) return
    const [least, most] = [Number(range[1]), Number(range[2])]
    expect([least, most].map((value) => accepts(key, String(value)))).toEqual([true, true])
    expect([least - 1, most + 1].map((value) => accepts(key, String(value)))).toEqual([false, false])
  })

  test('lists every element type', () => {
    const unit = rowOf('dtype')?.[3] ?? ''
    const types = Array.from(unit.matchAll(/`(\w+)`/g), ([, type]) => type ?? '')
    expect(types.every((type) => accepts('dtype', type))).toBe(true)
    expect(() => readConfig({ dtype: 'none' }, surroundings)).toThrow(types.join(', '))
  })
})
