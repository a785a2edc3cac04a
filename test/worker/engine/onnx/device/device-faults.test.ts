import { ServingError } from '@quiver/protocol'
import { describe, expect, test } from 'vitest'
import { EngineBroken } from '../../../../../packages/worker/src/engine/engine-broken.ts'
import { classifyCuda, cudaFailure, runFailure } from '../../../../../packages/worker/src/engine/onnx/device/device-faults.ts'

describe('an error of CUDA', () => {
  test.each([
    ['W05', 2, 'full'],
    ['W06', 700, 'lost'],
    ['W06', 709, 'lost'],
    ['W06', 716, 'lost'],
    ['W06', 719, 'lost'],
    ['W06', 214, 'lost'],
    ['W07', 35, 'missing'],
    ['W07', 100, 'missing'],
    ['W07', 803, 'missing'],
    ['W07', 46, 'busy'],
    ['W07', 802, 'busy'],
    ['W08', 1, 'mistake'],
    ['W08', 9, 'mistake'],
    ['W08', 209, 'mistake'],
  ] as const)('%s number %i is one of the kind %s', (_id, code, kind) => {
    expect(classifyCuda(code)).toBe(kind)
  })

  test('W06 that nobody has heard of is taken for a lost context', () => {
    expect(classifyCuda(12_345)).toBe('lost')
  })

  test.each([
    [2, 'overloaded', /^the GPU's memory is full: said; start with a smaller --sequences.*--max-rank/],
    [700, 'internal', /^the GPU's context is lost: said$/],
    [35, 'invalid_request', /^the GPU cannot be used: said; install an NVIDIA driver .* --device cpu$/],
    [46, 'invalid_request', /^the GPU is in use or being reset: said; end what uses it/],
    [1, 'internal', /^a call to the GPU was wrong: said$/],
  ] as const)('number %i says what failed and what to change', (code, expected, message) => {
    const error = cudaFailure(code, 'said')
    expect(error).toMatchObject({ code: expected, context: { cuda: code } })
    expect(error.message).toMatch(message)
    expect(error instanceof EngineBroken).toBe(code === 700)
  })
})

describe('a run of the graph that failed', () => {
  const failed = (text: string) => runFailure(new ServingError('internal', `ONNX Runtime failed in runWithBinding: ${text}`))

  test.each([
    ['CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; file=cuda_allocator.cc ; line=62'],
    ['BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 4096'],
    ['CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0'],
  ])('W05 for want of memory is overload, and no more: %s', (text) => {
    expect(failed(text)).toMatchObject({ code: 'overloaded' })
    expect(failed(text)).not.toBeInstanceOf(EngineBroken)
  })

  test.each([
    ['CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; expr=cudaStreamSynchronize(stream)'],
    ['CUDA error 719: unspecified launch failure'],
    ['CUBLAS failure 14: CUBLAS_STATUS_INTERNAL_ERROR ; GPU=0'],
    ['quiver::Lora: lora: 8 rows were not computed: an illegal memory access was encountered (CUDA error 700)'],
  ])('W06 with the context lost breaks the engine: %s', (text) => {
    expect(failed(text)).toBeInstanceOf(EngineBroken)
  })

  test('W08 for a wrong shape is that run alone', () => {
    const error = failed('quiver::Lora: y has 6 rows, x 8 and slot 6')
    expect(error).toMatchObject({ code: 'internal' })
    expect(error).not.toBeInstanceOf(EngineBroken)
    const other = new Error('something else')
    expect(runFailure(other)).toBe(other)
  })
})
