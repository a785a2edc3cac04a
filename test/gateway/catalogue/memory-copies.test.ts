import { MemoryChangeFeed } from '../../../packages/gateway/src/catalogue/change-feed.ts'
import { MemoryHotCopy } from '../../../packages/gateway/src/catalogue/hot-copy.ts'
import { describeChangeFeed } from './change-feed-conformance.ts'
import { describeHotCopy } from './hot-copy-conformance.ts'

describeHotCopy('memory', async () => new MemoryHotCopy())
describeChangeFeed('memory', async () => {
  const feed = new MemoryChangeFeed()
  return [feed, feed]
})
