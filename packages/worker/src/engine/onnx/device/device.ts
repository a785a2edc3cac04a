/**
 * A device with memory of its own, as the engine sees it: the host fills that memory and hands addresses in it to ONNX Runtime.
 * A GPU is one (cuda-device.ts); so is the execution shim in tests, which is the same code on a CPU.
 */

/** A piece of a device's memory. It cannot be read here. */
export interface DeviceSpan {
  readonly address: bigint
  readonly byteLength: number
}

/** One copy into the device: all of `from` to `to` and what follows it. */
export interface DevicePiece {
  readonly to: bigint
  readonly from: ArrayBufferView
}

/** Runs of bytes that stand `pitch` bytes apart. */
export interface StridedRuns {
  readonly width: number
  readonly pitch: number
  readonly height: number
}

/** Every function throws a ServingError, or EngineBroken where the device's context is lost (device-faults.ts). */
export interface Device {
  /** Address of the stream that the model is computed on. */
  readonly stream: bigint
  /** Bytes of its memory. */
  memory(): { readonly free: number; readonly total: number }
  /** Memory of zeros, 256-byte aligned, until the device is closed. @param what it is for, e.g. `keys and values` */
  allocate(bytes: number, what: string): DeviceSpan
  /** Copies inside the device, in order with what is computed. The places do not overlap. */
  copy(to: bigint, from: bigint, runs: StridedRuns): void
  /** Copies of the host's memory, beside what is computed; what is behind `from` may change when this resolves. */
  send(pieces: readonly DevicePiece[]): Promise<void>
  /** What is computed from now on sees all that was sent. */
  fence(): void
  /** Resolves when everything has been computed. */
  wait(): Promise<void>
  /** Waits, and reads memory back; for tests. */
  read(span: DeviceSpan): Uint8Array<ArrayBuffer>
  /** Memory for the LoRA operator's own use, for runs of at most so many rows. */
  reserveLora(limits: { readonly rows: number; readonly slots: number; readonly maxRank: number }): void
  close(): void
}

/** How ONNX Runtime computes on a device. */
export interface DeviceBackend {
  /** For `/info`, e.g. `cuda`. */
  readonly name: string
  /** The runtime's own library, where it is not onnxruntime-node's, and libraries that must be loaded before it. */
  readonly runtime: { readonly library?: string; readonly companions: readonly string[] }
  /** What ONNX Runtime calls the memory. */
  readonly memoryName: 'Cuda' | 'Cpu'
  /** Options of the CUDA execution provider; absent: the CPU's computes. */
  readonly provider?: (device: Device) => Readonly<Record<string, string>>
  open(): Device
}
