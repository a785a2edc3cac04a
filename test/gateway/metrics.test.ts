import { request } from 'undici'
import { afterEach, describe, expect, test } from 'vitest'
import { AdapterLabels, labelText } from '../../packages/gateway/src/metrics/adapter-labels.ts'
import { type GatewayUnderTest, startGateway } from '../support/gateway-under-test.ts'
import { codeSpan, readProjectText, tableRows } from '../support/repository.ts'
import { accepted, token } from '../support/scripted-worker.ts'

let under: GatewayUnderTest
afterEach(() => under.close())

async function scrape(headers: Record<string, string> = {}) {
  const response = await request(`${under.url}/metrics`, { headers })
  return { status: response.statusCode, headers: response.headers, text: await response.body.text() }
}

/** The value of the one sample that is written like this; undefined when there is none. */
async function sample(written: string): Promise<number | undefined> {
  const line = (await scrape()).text.split('\n').find((one) => one.startsWith(`${written} `))
  return line === undefined ? undefined : Number(line.slice(written.length + 1))
}

const hello = { inputs: 'Hi', parameters: { max_new_tokens: 5 } }

describe('documents', () => {
  test('docs/metrics.md lists every metric that is emitted, with its kind, and no other', async () => {
    under = await startGateway({ processMetrics: true })
    const emitted = Array.from((await scrape()).text.matchAll(/^# TYPE (\S+) (\S+)$/gm), ([, name, kind]) => `${name} ${kind}`)
    const listed = tableRows(readProjectText('docs/metrics.md'), 'metric', 'kind', 'meaning')
    expect(listed.map(([name, kind]) => `${codeSpan(name)} ${kind}`).toSorted()).toEqual(emitted.toSorted())
    for (const [name, , meaning = ''] of listed) expect(meaning.length, name).toBeGreaterThan(3)
  })
})

describe('GET /metrics', () => {
  test('is Prometheus text in which no name is twice, with a request id', async () => {
    under = await startGateway()
    const { status, headers, text } = await scrape({ 'x-request-id': 'mine' })
    expect([status, headers['content-type'], headers['x-request-id']]).toEqual([
      200,
      'text/plain; version=0.0.4; charset=utf-8',
      'mine',
    ])
    const names = Array.from(text.matchAll(/^# TYPE (\S+) /gm), ([, name]) => name)
    expect(new Set(names).size).toBe(names.length)
    for (const line of text.split('\n').filter((one) => one !== ''))
      expect(line).toMatch(/^(# (HELP|TYPE) \w+ .+|\w+(\{.*\})? [-+.\w]+)$/)
  })

  test('is JSON for those who accept that', async () => {
    under = await startGateway()
    const { headers, text } = await scrape({ accept: 'application/json' })
    expect(headers['content-type']).toContain('application/json')
    expect(JSON.parse(text)).toContainEqual(
      expect.objectContaining({ name: 'lorax_queue_length', type: 'gauge', values: [{ value: 3, labels: {} }] }),
    )
  })

  test('counts requests, what came of them, and what their runs took', async () => {
    under = await startGateway()
    await under.post('/generate', hello)
    await under.post('/generate_stream', hello)
    await under.post('/v1/completions', { model: 'text-to-sql', prompt: 'Hi' })
    await under.post('/v1/chat/completions', { model: '', messages: [{ role: 'user', content: 'Hi' }], stream: true })
    await under.post('/generate', { inputs: '' })
    await under.post('/generate', '{')
    await under.post('/generate_stream', { inputs: 'Hi', parameters: { adapter_id: 'unknown' } })
    expect(await sample('lorax_request_count')).toBe(7)
    expect(await sample('lorax_request_success')).toBe(4)
    expect(await sample('lorax_request_failure{err="validation"}')).toBe(1)
    expect(await sample('lorax_request_failure{err="bad_request"}')).toBe(1)
    expect(await sample('lorax_request_failure{err="download_adapter"}')).toBe(1)
    expect(await sample('lorax_request_duration_count')).toBe(4)
    expect(await sample('lorax_request_inference_duration_sum')).toBeCloseTo(4 * 0.02)
    expect(await sample('lorax_request_generated_tokens_sum')).toBe(8)
    expect(await sample('quiver_runs_total{kind="base",adapter="",outcome="success"}')).toBe(3)
    expect(await sample('quiver_runs_total{kind="registered",adapter="text-to-sql",outcome="success"}')).toBe(1)
    expect(await sample('quiver_run_generated_tokens_total{kind="registered",adapter="text-to-sql"}')).toBe(2)
  })

  test('a failed run and a lost worker are failures, each request counted once', async () => {
    under = await startGateway()
    under.worker.script = (run) => {
      run.send(accepted, token('Hello'))
      run.cut()
    }
    await under.post('/generate', hello)
    await under.post('/generate_stream', hello)
    expect(await sample('lorax_request_failure{err="incomplete"}')).toBe(2)
    expect(await sample('lorax_request_count')).toBe(2)
    expect(await sample('quiver_runs_total{kind="base",adapter="",outcome="failure"}')).toBe(2)
  })

  test("shows the worker's own numbers", async () => {
    under = await startGateway()
    expect(await sample('quiver_worker_up')).toBe(1)
    expect(await sample('lorax_batch_current_size')).toBe(2)
    expect(await sample('quiver_worker_slots{state="resident"}')).toBe(2)
    expect(await sample('quiver_worker_finished_total{cause="eos_token"}')).toBe(3)
    expect(await sample('quiver_tier_bytes{tier="disk"}')).toBe(4000)
    expect(await sample('quiver_tier_evictions_total{tier="device"}')).toBe(6)
    expect(await sample('quiver_disk_reads_total{result="damaged"}')).toBe(13)
  })

  test('answers without a worker, and with one that hangs, and shows nothing old of it', async () => {
    under = await startGateway()
    under.worker.tellsState = false
    expect(await sample('quiver_worker_up')).toBe(0)
    under.pool.remove(under.worker.url)
    const { text } = await scrape()
    expect(text).toContain('\nquiver_worker_up 0\n')
    expect(text).not.toContain('lorax_queue_length')
  })

  test('two gateways of one process count apart', async () => {
    under = await startGateway()
    const other = await startGateway()
    await other.post('/generate', hello)
    await other.close()
    expect(await sample('lorax_request_count')).toBe(0)
  })
})

describe('labels', () => {
  test('T08: line ends and other control characters of a name are written out, so that no line is forged', async () => {
    under = await startGateway()
    expect(labelText('a\r\nquiver_worker_up 0\u2028b\u0085')).toBe('a\\x0d\\x0aquiver_worker_up 0\\x2028b\\x85')
  })

  test('the first 100 adapters have a label of their own, all others share one', async () => {
    under = await startGateway()
    const labels = new AdapterLabels()
    const of = (name: string) => labels.of({ kind: 'registered', name: name as never, digest: 'a'.repeat(64) as never }).adapter
    const all = new Set(Array.from({ length: 1000 }, (_, index) => of(`adapter-${index}`)))
    expect([all.size, of('adapter-0'), of('adapter-999')]).toEqual([101, 'adapter-0', 'other'])
    expect(labels.of({ kind: 'local', path: '/secret' })).toEqual({ kind: 'local', adapter: '' })
  })
})

test('a tenant that is called as all others together are is counted with them', async () => {
  under = await startGateway()
  under.worker.state = {
    ...under.worker.state,
    tenants: [
      { tenant: 'other', waiting: 1, running: 2, servedTokens: 3 },
      { tenant: '', waiting: 10, running: 20, servedTokens: 30 },
    ],
  }
  expect(await sample('quiver_tenant_waiting{tenant="other"}')).toBe(11)
  expect(await sample('quiver_tenant_running{tenant="other"}')).toBe(22)
  expect(await sample('quiver_tenant_served_tokens_total{tenant="other"}')).toBe(33)
})
