/** Runs whose conversation is rendered with the template of their adapter. */
import { type Prompt, ServingError } from '@quiver/protocol'
import { expect, test } from 'vitest'
import { BatchHarness } from '../support/batch-harness.ts'

const prompt = {
  kind: 'chat' as const,
  messages: [{ role: 'user', content: 'abc' }],
  template: 'of the adapter',
  toolPrompt: 'Functions:',
  addGenerationPrompt: true,
} satisfies Prompt

test('the rendered text is the prompt, and an adapter still answers it', async () => {
  const asked: unknown[] = []
  const harness = new BatchHarness({
    renderTemplate: async (conversation) => {
      asked.push(conversation)
      return 'rendered'
    },
  })
  const run = harness.run({ prompt, on: 'one' })
  await run.end
  const { kind: _, ...conversation } = prompt
  expect(asked).toEqual([conversation])
  expect(run.events[0]).toMatchObject({ type: 'accepted', promptTokens: 'rendered'.length })
})

test('a template that fails is the end of its run alone', async () => {
  const error = new ServingError('template_error', 'Failed applying chat template to inputs: no')
  const harness = new BatchHarness({ renderTemplate: () => Promise.reject(error) })
  expect(await harness.run({ prompt }).end).toEqual({ type: 'error', code: error.code, message: error.message })
  expect((await harness.run().end).type).toBe('done')
})

test('a rendering is waited for until the deadline and while the client stays, and counts as waiting', async () => {
  const harness = new BatchHarness({ renderTemplate: () => new Promise(() => {}) })
  const late = harness.run({ prompt, deadlineMs: 500 })
  const left = harness.run({ prompt })
  expect(harness.service.state().waiting).toBe(2)
  left.cancel()
  harness.clock.advance(500)
  expect(await left.end).toMatchObject({ code: 'client_closed' })
  expect(await late.end).toMatchObject({
    code: 'deadline_exceeded',
    message: "the request's deadline passed after 500 ms, while its conversation was rendered",
  })
  await harness.turns()
  expect(harness.service.state().waiting).toBe(0)
})

test('a worker that drains answers what it is rendering', async () => {
  const rendered = Promise.withResolvers<string>()
  const harness = new BatchHarness({ renderTemplate: () => rendered.promise })
  const run = harness.run({ prompt })
  const drained = harness.service.drain()
  rendered.resolve('abc')
  expect((await run.end).type).toBe('done')
  await drained
})
