/** A graph of one node of our own, run by ONNX Runtime. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import {
  type ElementType,
  loadOnnxRuntime,
  type OnnxRuntime,
  type Session,
  type TensorData,
} from '../../packages/worker/src/engine/onnx/ort.ts'

/** An input as it is bound; tests of refusals bind others than a right case gives. */
export interface BoundInput {
  readonly type: ElementType
  readonly shape: readonly number[]
  readonly data: TensorData
}

export class NodeUnderTest {
  readonly #runtime: OnnxRuntime
  readonly #session: Session

  private constructor(runtime: OnnxRuntime, session: Session) {
    this.#runtime = runtime
    this.#session = session
  }

  /** @param model encoded; its one output is `result`, of float32 */
  static async open(library: string, model: Uint8Array, threads = 2): Promise<NodeUnderTest> {
    const folder = await mkdtemp(path.join(tmpdir(), 'quiver-node-'))
    const runtime = loadOnnxRuntime()
    try {
      const file = path.join(folder, 'node.onnx')
      await writeFile(file, model)
      return new NodeUnderTest(runtime, await runtime.createSession(file, { threads, operatorLibraries: [library] }))
    } catch (error) {
      runtime.close()
      throw error
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }

  async run(inputs: ReadonlyMap<string, BoundInput>, outShape: readonly number[]): Promise<Float32Array> {
    const binding = this.#session.createBinding()
    const output = new Float32Array(new ArrayBuffer(4 * outShape.reduce((product, size) => product * size, 1))).fill(-77)
    const tensors = [...inputs].map(([name, { type, shape, data }]) => {
      const tensor = this.#runtime.tensor(type, shape, data)
      binding.bindInput(name, tensor)
      return tensor
    })
    const result = this.#runtime.tensor('f32', outShape, output)
    try {
      binding.bindOutput('result', result)
      await binding.run()
      return output
    } finally {
      binding.close()
      for (const tensor of [...tensors, result]) tensor.release()
    }
  }

  close(): void {
    this.#session.close()
    this.#runtime.close()
  }
}
