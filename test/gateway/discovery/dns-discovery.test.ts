import { describe, expect, test } from 'vitest'
import { dnsDiscovery } from '../../../packages/gateway/src/discovery/dns-discovery.ts'
import { ManualClock } from '../../support/manual-clock.ts'

const turn = () => new Promise(setImmediate)

function discover(url: string, answers: (readonly string[] | Error)[]) {
  const clock = new ManualClock()
  const lists: (readonly string[])[] = []
  const asked: string[] = []
  const log: string[] = []
  const discovery = dnsDiscovery(url, {
    clock,
    log: (_level, message) => log.push(message),
    async resolve(name) {
      asked.push(name)
      const answer = answers.shift() ?? new Error('ENOTFOUND')
      if (answer instanceof Error) throw answer
      return answer
    },
  })
  discovery.start((addresses) => lists.push(addresses))
  return { clock, lists, asked, log, discovery }
}

describe('workers behind a name', () => {
  test('are all of its addresses, of both kinds', async () => {
    const { lists, asked } = discover('dns+http://workers.quiver.svc:8090', [['10.0.0.7', 'fd00::7']])
    await turn()
    expect(asked).toEqual(['workers.quiver.svc'])
    expect(lists).toEqual([['http://10.0.0.7:8090', 'http://[fd00::7]:8090']])
  })

  test('are asked for again and again', async () => {
    const { clock, lists } = discover('dns+http://w:1', [['10.0.0.1'], ['10.0.0.1', '10.0.0.2'], []])
    for (let round = 0; round < 3; round++) {
      await turn()
      clock.advance(5_000)
    }
    expect(lists.map((list) => list.length)).toEqual([1, 2, 0])
  })

  test('G11 stay as they were while no answer comes, or one that cannot be, which is said once', async () => {
    const { clock, lists, log } = discover('dns+http://w:1', [
      ['10.0.0.1'],
      new Error('SERVFAIL'),
      ['10.0.0.1', 'no host at all'],
      ['10.0.0.2'],
    ])
    for (let round = 0; round < 4; round++) {
      await turn()
      clock.advance(5_000)
    }
    expect(lists).toEqual([['http://10.0.0.1:1'], ['http://10.0.0.2:1']])
    expect(log).toHaveLength(1)
  })

  test('are not asked for any more once it is closed', async () => {
    const { clock, asked, discovery } = discover('dns+http://w:1', [['10.0.0.1']])
    await turn()
    discovery.close()
    clock.advance(60_000)
    expect([asked.length, clock.pending]).toEqual([1, 0])
  })
})
