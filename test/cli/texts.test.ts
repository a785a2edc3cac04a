import { PassThrough } from 'node:stream'
import type { Progress } from '@quiver/protocol'
import { describe, expect, test } from 'vitest'
import { lineLogger } from '../../packages/cli/src/line-logger.ts'
import { progressReport } from '../../packages/cli/src/progress-report.ts'
import { readyText } from '../../packages/cli/src/ready-text.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { scriptedInfo } from '../support/scripted-worker.ts'

const download = (done: number, total: number): Progress => ({ phase: 'download', label: 'SmolLM2', done, total, unit: 'bytes' })

function written(isTTY: boolean) {
  const output = Object.assign(new PassThrough({ encoding: 'utf8' }), { isTTY })
  return { output, text: () => String(output.read() ?? '') }
}

describe('progress without a terminal', () => {
  test('is one plain line for each tenth of the way', () => {
    const { output, text } = written(false)
    const report = progressReport(output, new ManualClock())
    for (let done = 0; done <= 1000; done++) report.show(download(done * 1e5, 1e8))
    const lines = text().trimEnd().split('\n')
    expect(lines).toHaveLength(11)
    expect(lines[0]).toBe('Downloading SmolLM2: 0 % (0.0 MB of 100.0 MB)')
    expect(lines.at(-1)).toBe('Downloading SmolLM2: 100 % (100.0 MB of 100.0 MB)')
  })

  test('of unknown length is at most one line in five seconds', () => {
    const { output, text } = written(false)
    const clock = new ManualClock()
    const report = progressReport(output, clock)
    for (let second = 0; second < 12; second++) {
      report.show(download(second * 1e6, 0))
      clock.advance(1000)
    }
    expect(text()).toBe('Downloading SmolLM2\nDownloading SmolLM2: 5.0 MB\nDownloading SmolLM2: 10.0 MB\n')
  })

  test('names each phase when it begins', () => {
    const { output, text } = written(false)
    const report = progressReport(output, new ManualClock())
    for (const phase of ['convert', 'load'] as const) report.show({ phase, label: 'x', done: 0, total: 4, unit: 'steps' })
    expect(text()).toBe('Converting x: 0 %\nLoading x: 0 %\n')
  })
})

test('on a terminal progress is a bar that ends before anything else is written', () => {
  const { output, text } = written(true)
  const report = progressReport(output as never, new ManualClock())
  report.show(download(0, 1e6))
  report.show(download(1e6, 1e6))
  report.end()
  const shown = text()
  expect(shown).toContain('Downloading SmolLM2')
  expect(shown).toContain('100 % (1.0 MB of 1.0 MB)')
  expect(shown.endsWith('\n')).toBe(true)
})

describe('the ready lines', () => {
  const text = (adapters: readonly string[]) => readyText({ url: 'http://127.0.0.1:8080', info: scriptedInfo, adapters })

  test('name the address, the model, the adapters, and a command whose body is JSON', () => {
    const shown = text(['sentiment', 'text-to-sql'])
    expect(shown).toContain('Quiver is ready: http://127.0.0.1:8080\n')
    expect(shown).toContain('smollm2-135m-instruct (int8, scripted on cpu, adapters by none)')
    expect(shown).toContain('sentiment, text-to-sql')
    const body = /curl http:\/\/127\.0\.0\.1:8080\/generate -H 'content-type: application\/json' -d '([^']*)'\n/.exec(shown)?.[1]
    expect(JSON.parse(body ?? '')).toMatchObject({ parameters: { adapter_id: 'text-to-sql' } })
  })

  test('with API keys the command has a place for one', () => {
    const shown = readyText({ url: 'http://127.0.0.1:8080', info: scriptedInfo, adapters: [], wantsKey: true })
    expect(shown).toContain('/generate -H "authorization: Bearer $QUIVER_KEY" -H ')
  })

  test('without the example adapters show a plain prompt', () => {
    expect(text([])).toContain('"inputs":"Once upon a time"')
    expect(text([])).toContain('adapters  none yet')
    expect(text(Array.from({ length: 20 }, (_, n) => `a${n}`))).toContain('a7 and 12 more')
  })
})

test('a log line has the time, the level and the context, and nothing below its level', () => {
  const { output, text } = written(false)
  const log = lineLogger(output, () => new Date(0), 'info')
  log('debug', 'hidden')
  log('warn', 'a\nb', { id: 'x' })
  expect(text()).toBe('1970-01-01T00:00:00.000Z warn a\\nb {"id":"x"}\n')
})

test('T08: nothing in a message ends its line or moves the cursor, so that no line is forged', () => {
  const { output, text } = written(false)
  const name = 'a\r\n1970-01-01T00:00:00.000Z info all is well\u001b[2K\u0085\u2028'
  lineLogger(output, () => new Date(0), 'info')('warn', `adapter '${name}' is broken`, { adapter: name })
  const line = text()
  expect(line.trimEnd()).not.toMatch(/[\p{Cc}]/u)
  expect(line).toContain('\\u000d\\n1970-01-01T00:00:00.000Z info all is well\\u001b[2K\\u0085\\u2028')
})
