/** A GPU's memory, streams and faults through the worker's own code, on the execution shim (kernels/emulator/runtime.h). */
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { EngineBroken } from '../../../packages/worker/src/engine/engine-broken.ts'
import type { Device } from '../../../packages/worker/src/engine/onnx/device/device.ts'
import { refusal } from '../../support/refusal.ts'
import { type ShimDevice, shimDevice } from '../../support/shim-device.ts'

let shim: ShimDevice
let device: Device
beforeAll(async () => {
  shim = await shimDevice()
}, 300_000)
beforeEach(() => {
  device = shim.open()
})
afterEach(() => {
  shim.fail('', 0)
  device.close()
})

const bytesFrom = (first: number, count: number) => Uint8Array.from({ length: count }, (_, i) => (first + i * 7) % 251)

describe('memory of the device', () => {
  test('is of zeros, and aligned', () => {
    const span = device.allocate(1000, 'a test')
    expect(span.address % 256n).toBe(0n)
    expect(device.read(span)).toEqual(new Uint8Array(1000))
    expect(device.memory().free).toBeGreaterThan(0)
  })

  test('takes pieces of the host, however long', async () => {
    const [small, large] = [bytesFrom(3, 1001), bytesFrom(5, 9_000_000)]
    const span = device.allocate(small.length + large.length, 'a test')
    await device.send([
      { to: span.address, from: small },
      { to: span.address + BigInt(small.length), from: large },
    ])
    device.fence()
    expect(Buffer.from(device.read(span)).equals(Buffer.concat([small, large]))).toBe(true)
  })

  test('gets what was sent no earlier than a step is made to wait for it', async () => {
    const span = device.allocate(16, 'a test')
    await device.send([{ to: span.address, from: bytesFrom(1, 16) }])
    expect(device.read(span)).toEqual(new Uint8Array(16))
    device.fence()
    expect(device.read(span)).toEqual(bytesFrom(1, 16))
  })

  test('takes adapters of several writers at once', async () => {
    const sources = [0, 1, 2].map((i) => bytesFrom(i, 5_000_000))
    const spans = sources.map(({ length }) => device.allocate(length, 'a test'))
    await Promise.all(spans.map(({ address }, i) => device.send([{ to: address, from: sources[i] as Uint8Array }])))
    device.fence()
    for (const [i, span] of spans.entries()) {
      expect(Buffer.from(device.read(span)).equals(Buffer.from(sources[i] as Uint8Array))).toBe(true)
    }
  })

  test('is copied run by run', async () => {
    const span = device.allocate(64, 'a test')
    await device.send([{ to: span.address, from: bytesFrom(1, 32) }])
    device.fence()
    device.copy(span.address + 32n, span.address, { width: 4, pitch: 16, height: 2 })
    const after = device.read(span)
    const source = bytesFrom(1, 32)
    expect([...after.subarray(32, 36)]).toEqual([...source.subarray(0, 4)])
    expect([...after.subarray(48, 52)]).toEqual([...source.subarray(16, 20)])
    expect([...after.subarray(36, 48)]).toEqual(Array.from({ length: 12 }, () => 0))
  })
})

test('memory for adapters is refused for what the kernels do not compute', () => {
  expect(() => device.reserveLora({ rows: 0, slots: 1, maxRank: 1 })).toThrow('1 to 1048576 rows')
  expect(() => device.reserveLora({ rows: 8, slots: 1, maxRank: 129 })).toThrow('of ranks to 128')
})

describe('a fault of the device', () => {
  test('W05 no memory is refused with what to start with less of, and the device goes on', async () => {
    shim.fail('cudaMalloc', 2)
    const error = await refusal(() => device.allocate(1 << 20, 'keys and values'))
    expect(error).toMatchObject({ code: 'overloaded', context: { cuda: 2 } })
    expect(error.message).toMatch(
      /^keys and values: the GPU's memory is full: 1048576 bytes .+ \(CUDA error 2\); start with a smaller --sequences/,
    )
    expect(device.read(device.allocate(8, 'a test'))).toEqual(new Uint8Array(8))
  })

  test('W05 no pinned memory at the start leaves nothing open', async () => {
    shim.fail('cudaHostAlloc', 2)
    expect(await refusal(() => shim.open())).toMatchObject({ code: 'overloaded' })
    shim.open().close()
  })

  test('W06 a context that is lost breaks the engine for good: every call says so', async () => {
    shim.fail('cudaStreamSynchronize', 700)
    await expect(device.wait()).rejects.toThrow(EngineBroken)
    await expect(device.wait()).rejects.toThrow(/context is lost: .*illegal memory access.*\(CUDA error 700\)/)
    expect(await refusal(() => device.allocate(8, 'a test'))).toBeInstanceOf(EngineBroken)
    await expect(device.send([{ to: 0n, from: new Uint8Array(8) }])).rejects.toThrow(EngineBroken)
  })
})
