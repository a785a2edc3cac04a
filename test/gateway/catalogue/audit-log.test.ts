import { expect, test } from 'vitest'
import { AuditLog } from '../../../packages/gateway/src/catalogue/audit-log.ts'
import { MemoryStore } from '../../support/memory-store.ts'

const start = Date.UTC(2026, 0, 1)
const eventAt = (ms: number, subject = 'a') => ({
  at: new Date(start + ms).toISOString(),
  actor: { tenant: 'ops' },
  action: 'adapter.pin',
  subject,
  before: {},
  after: { n: ms },
})

test('the newest come first, page after page, over days, each event once', async () => {
  const log = new AuditLog(new MemoryStore())
  const times = Array.from({ length: 25 }, (_, n) => n * 7_200_000)
  for (const ms of times) await log.append(eventAt(ms))
  await log.append(eventAt(0))
  const seen: unknown[] = []
  for (let cursor: string | undefined, pages = 0; pages < 10; pages++) {
    const page = await log.page({ limit: 7, ...(cursor === undefined ? {} : { cursor }) })
    seen.push(...page.events.map(({ after }) => after['n']))
    cursor = page.cursor
    if (cursor === undefined) break
  }
  expect(seen).toEqual(times.toReversed())
})

test('events about one name are found among others', async () => {
  const log = new AuditLog(new MemoryStore())
  for (let n = 0; n < 30; n++) await log.append(eventAt(n, n % 10 === 0 ? 'wanted' : 'other'))
  const page = await log.page({ subject: 'wanted', limit: 2 })
  expect(page.events.map(({ after }) => after['n'])).toEqual([20, 10])
  const rest = await log.page({ subject: 'wanted', limit: 2, cursor: page.cursor ?? '' })
  expect(rest.events.map(({ after }) => after['n'])).toEqual([0])
})

test('what is no event is passed over, and what is no cursor refused', async () => {
  const store = new MemoryStore()
  const log = new AuditLog(store)
  await log.append(eventAt(1))
  await store.put('audit/000000/0000000000000-0000000000000000.json', new TextEncoder().encode('hello'))
  expect((await log.page()).events).toHaveLength(1)
  for (const cursor of ['', 'x', '../../secret', '1'.repeat(400)]) {
    await expect(log.page({ cursor })).rejects.toMatchObject({ code: 'invalid_request' })
  }
})
