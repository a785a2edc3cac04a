import { parseAdapterName } from '@quiver/protocol'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isInCanary } from '../../../packages/gateway/src/catalogue/canary.ts'
import { randomSeed } from '../../support/random-seed.ts'

const name = fc.stringMatching(/^[a-z][a-z0-9]{0,9}(\/[a-z][a-z0-9]{0,9})?$/).map(parseAdapterName)
const share = fc.double({ min: 0, max: 100, noNaN: true })

test('a user who is in stays in when the share grows; nobody is in a share of 0, everybody in one of 100', () => {
  const seed = randomSeed('canary')
  fc.assert(
    fc.property(name, fc.string(), share, share, (adapter, user, one, other) => {
      const [small, large] = [Math.min(one, other), Math.max(one, other)]
      expect(isInCanary(adapter, user, small) && !isInCanary(adapter, user, large)).toBe(false)
      expect(isInCanary(adapter, user, large)).toBe(isInCanary(adapter, user, large))
      expect([isInCanary(adapter, user, 0), isInCanary(adapter, user, 100)]).toEqual([false, true])
    }),
    { seed },
  )
})

test('of many users the share is in, for each name another one', () => {
  const seed = randomSeed('canary shares')
  const users = 4000
  fc.assert(
    fc.property(
      fc.uniqueArray(name, { minLength: 2, maxLength: 2 }),
      fc.nat(),
      fc.integer({ min: 1, max: 99 }),
      (names, salt, percent) => {
        const groups = names.map((adapter) =>
          Array.from({ length: users }, (_, n) => isInCanary(adapter, `user-${salt}-${n}`, percent)),
        )
        const counts = groups.map((group) => group.filter(Boolean).length)
        // Six standard deviations of a binomial share: out of ten thousand such groups not one is outside.
        const tolerance = 6 * Math.sqrt(users * (percent / 100) * (1 - percent / 100))
        for (const count of counts) expect(Math.abs(count - (users * percent) / 100)).toBeLessThan(tolerance)
        const both = groups[0]?.filter((isIn, n) => isIn && groups[1]?.[n] === true).length ?? 0
        const share = percent / 100
        expect(Math.abs(both - users * share ** 2)).toBeLessThan(6 * Math.sqrt(users * share ** 2 * (1 - share ** 2)))
      },
    ),
    { seed, numRuns: 20 },
  )
})
