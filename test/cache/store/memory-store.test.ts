import { MemoryStore } from '../../support/memory-store.ts'
import { describeObjectStore } from './object-store-conformance.ts'

describeObjectStore('the store of the tests', async () => new MemoryStore())
