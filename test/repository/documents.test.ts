/** Documents name only what is there, and say of errors and metrics what the code does. */
import { posix } from 'node:path'
import { type ErrorCode, errorCodes, httpStatus, limits, ServingError } from '@quiver/protocol'
import { describe, expect, test } from 'vitest'
import { commonHeaders, timingHeaders } from '../../packages/gateway/src/routes/lorax-answer.ts'
import { toLoraxError } from '../../packages/gateway/src/routes/lorax-envelope.ts'
import { describeServer } from '../../packages/gateway/src/routes/server-info.ts'
import { BatchHarness } from '../support/batch-harness.ts'
import { codeSpan, isProjectPath, projectFiles, readProjectText, tableRows } from '../support/repository.ts'
import { scriptedInfo } from '../support/scripted-worker.ts'

const documents = projectFiles().filter((file) => file.endsWith('.md'))

describe.each(documents)('%s', (file) => {
  const text = readProjectText(file)

  test('links to files that are there', () => {
    const links = Array.from(text.matchAll(/\]\(([^)\s]+)\)/g), ([, target]) => target ?? '')
    const local = links.filter((target) => !/^[a-z]+:|^#/.test(target))
    const missing = local.filter((target) => !isProjectPath(posix.join(posix.dirname(file), target.replace(/#.*$/, ''))))
    expect(missing).toEqual([])
  })

  test('names files that are there', () => {
    const spans = Array.from(text.matchAll(/`([^`\n]+)`/g), ([, span]) => span ?? '')
    const paths = spans.filter((span) => /^(?:packages|test|docs|examples|kernels|scripts|bench)\/[\w./-]+$/.test(span))
    expect(paths.filter((path) => !isProjectPath(path))).toEqual([])
  })
})

describe('ARCHITECTURE.md', () => {
  const text = readProjectText('ARCHITECTURE.md')

  test("tells a request's path in eight steps, each with files", () => {
    const path = text.split(/^## /m).find((section) => section.startsWith("A request's path")) ?? ''
    const steps = path.split(/^\d+\. /m).slice(1)
    expect(steps).toHaveLength(8)
    for (const step of steps) expect(step).toMatch(/`packages\/[\w./-]+\.ts`/)
  })

  test('names a test for everything that it promises when something dies', () => {
    const rows = tableRows(text, 'what happens', 'what is promised', 'shown by')
    expect(rows.length).toBeGreaterThan(8)
    for (const [what = '', , shown = ''] of rows) expect(shown, what).toMatch(/^`test\/[\w./-]+\.test\.ts`/)
  })
})

describe('decisions', () => {
  const records = documents.filter((file) => file.startsWith('docs/adr/'))

  test('are numbered without a gap', () => {
    expect(records.map((file) => Number(/\/(\d{4})-/.exec(file)?.[1]))).toEqual(records.map((_, at) => at + 1))
  })

  test.each(records)('%s says context, decision and what was given up', (file) => {
    const text = readProjectText(file)
    const headings = Array.from(text.matchAll(/^## (.*)$/gm), ([, heading]) => heading)
    expect(headings).toEqual(['Context', 'Decision', 'What we gave up'])
    expect(text).toMatch(new RegExp(`^# ${Number(/\/(\d{4})-/.exec(file)?.[1])}\\. `))
  })
})

describe('docs/errors.md', () => {
  const rows = tableRows(readProjectText('docs/errors.md'), 'code', 'status', 'LoRAX status', 'LoRAX `error_type`')
  const rowOf = (code: ErrorCode) => rows.find(([span]) => codeSpan(span) === code)

  test('has every code once and no other', () => {
    expect(rows.map(([span]) => codeSpan(span)).toSorted()).toEqual(errorCodes.toSorted())
  })

  test.each(errorCodes)('says how %s is answered, what it means and what to do', (code) => {
    const [, status, loraxStatus, type, meaning = '', remedy = ''] = rowOf(code) ?? []
    const lorax = toLoraxError(new ServingError(code, 'why'))
    expect([status, loraxStatus, codeSpan(type)]).toEqual([String(httpStatus[code]), String(lorax.status), lorax.body.error_type])
    expect(Math.min(meaning.length, remedy.length)).toBeGreaterThan(5)
  })
})

describe('docs/metrics.md', () => {
  const text = readProjectText('docs/metrics.md')
  const names = (...header: readonly string[]) => tableRows(text, ...header).map(([span]) => codeSpan(span) ?? '')
  /** `field` heads two tables: that of /info, then that of the worker's state. */
  const fields = names('field', 'meaning')
  const [infoFields, stateFields] = [fields.slice(0, fields.indexOf('running')), fields.slice(fields.indexOf('running'))]

  test('lists the headers of answers and streams', () => {
    const body = { inputs: 'Hi', parameters: {}, stream: false }
    const adapter = { id: 'a', source: 'store', digest: '0' }
    const common = commonHeaders(body, {
      requestId: 'r',
      modelId: 'm',
      device: 'cpu',
      adapter,
      placed: { workerId: 'w', kind: 'ram' },
    })
    expect(names('header', 'on', 'meaning').toSorted()).toEqual([...Object.keys(common), 'retry-after'].toSorted())
  })

  test('lists the headers of whole answers', () => {
    const timing = timingHeaders(
      {
        type: 'done',
        finishReason: 'length',
        generatedText: '',
        promptTokens: 1,
        generatedTokens: 1,
        queueMs: 0,
        inferenceMs: 0,
        firstTokenMs: 0,
      },
      { validationMs: 0, totalMs: 0 },
    )
    expect(names('header of a whole answer', 'meaning').toSorted()).toEqual(Object.keys(timing).toSorted())
  })

  test('lists the fields of /info', () => {
    expect(infoFields).toHaveLength(Object.keys(describeServer(scriptedInfo, '0')).length)
    expect(infoFields.toSorted()).toEqual(Object.keys(describeServer(scriptedInfo, '0')).toSorted())
  })

  test("lists the fields of the worker's state", async () => {
    const harness = new BatchHarness({ prefixBytes: 1 << 20 })
    const state = harness.service.state()
    expect(stateFields.toSorted()).toEqual(Object.keys(state).toSorted())
    const rows = tableRows(text, 'field', 'meaning')
    const about = (field: string) => rows.find(([span]) => codeSpan(span) === field)?.[1] ?? ''
    for (const cause of Object.keys(state.finished)) expect(about('finished')).toContain(`\`${cause}\``)
    for (const kind of Object.keys(state.leases)) expect(about('leases')).toContain(`\`${kind}\``)
    await harness.loop.close()
  })

  test("lists what the worker's health may be", async () => {
    const harness = new BatchHarness({ waitingLimit: 0 })
    const listed = names('`status`', 'meaning')
    expect(listed).toEqual(['serving', 'starting', 'leaving', 'draining', 'stalled', 'overloaded', 'failed'])
    expect(harness.service.health().status).toBe('overloaded')
    await harness.loop.close()
    expect(harness.service.health().status).toBe('failed')
  })

  test('has the bounds that the code has', () => {
    expect([limits.stepAgeMs, limits.waitingSequences]).toEqual([20_000, 1024])
    expect(readProjectText('docs/errors.md')).toContain(`${limits.requestBodyBytes / 2 ** 20} MiB`)
    expect(limits.requestDeadlineMs).toBe(10 * 60_000)
    expect(limits.slowReaderMs).toBe(60_000)
  })
})
