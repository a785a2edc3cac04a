/**
 * Writes an ONNX model (onnx.proto3, IR version 9): nodes in order, weights as external data beside it.
 * Only what our graph needs. Field numbers are those of onnx.proto3.
 */
import { BinaryWriter } from '@bufbuild/protobuf/wire'
import { type ElementType, elementType } from './ort.ts'

export type Attribute = number | string | { readonly float: number } | readonly number[]
export type Dimension = number | string

/** A weight's place in the external data file: `bytes` long at `offset`. */
export interface ExternalTensor {
  readonly type: ElementType
  readonly shape: readonly number[]
  readonly offset: number
  readonly bytes: number
}

const IR_VERSION = 9
/** Versions of the operator sets, by domain; only those that a graph uses are named in it. */
const opsets: Readonly<Record<string, number>> = { '': 20, 'com.microsoft': 1, quiver: 1 }

type Write = (writer: BinaryWriter) => void

function message(writer: BinaryWriter, field: number, write: Write): void {
  writer.tag(field, 2).fork()
  write(writer)
  writer.join()
}

const text = (writer: BinaryWriter, field: number, value: string): void => void writer.tag(field, 2).string(value)
const integer = (writer: BinaryWriter, field: number, value: number): void => void writer.tag(field, 0).int64(value)

function writeAttribute(writer: BinaryWriter, name: string, value: Attribute): void {
  text(writer, 1, name)
  if (typeof value === 'number') {
    integer(writer, 3, value)
    integer(writer, 20, 2)
  } else if (typeof value === 'string') {
    writer.tag(4, 2).bytes(Buffer.from(value))
    integer(writer, 20, 3)
  } else if ('float' in value) {
    writer.tag(2, 5).float(value.float)
    integer(writer, 20, 1)
  } else {
    for (const item of value) integer(writer, 8, item)
    integer(writer, 20, 7)
  }
}

function writeValueInfo(writer: BinaryWriter, name: string, type: ElementType, shape: readonly Dimension[]): void {
  text(writer, 1, name)
  message(writer, 2, (typeProto) =>
    message(typeProto, 1, (tensor) => {
      integer(tensor, 1, elementType[type])
      message(tensor, 2, (shapeProto) => {
        for (const dimension of shape) {
          message(shapeProto, 1, (dim) => (typeof dimension === 'number' ? integer(dim, 1, dimension) : text(dim, 2, dimension)))
        }
      })
    }),
  )
}

function writeExternal(writer: BinaryWriter, name: string, tensor: ExternalTensor, location: string): void {
  for (const dim of tensor.shape) integer(writer, 1, dim)
  integer(writer, 2, elementType[tensor.type])
  text(writer, 8, name)
  for (const [key, value] of [
    ['location', location],
    ['offset', String(tensor.offset)],
    ['length', String(tensor.bytes)],
  ] as const) {
    message(writer, 13, (entry) => {
      text(entry, 1, key)
      text(entry, 2, value)
    })
  }
  integer(writer, 14, 1)
}

/** Collects a graph's parts and encodes them as a ModelProto. Nodes run in the order in which they were added. */
export class OnnxModelBuilder {
  readonly #nodes: Write[] = []
  readonly #inputs: Write[] = []
  readonly #outputs: Write[] = []
  readonly #shapes: Write[] = []
  readonly #initializers: Write[] = []
  readonly #domains = new Set([''])
  readonly #dataFile: string
  #counter = 0

  /** @param dataFile name of the external data file, in the model's folder */
  constructor(dataFile: string) {
    this.#dataFile = dataFile
  }

  input(name: string, type: ElementType, shape: readonly Dimension[]): string {
    this.#inputs.push((writer) => writeValueInfo(writer, name, type, shape))
    return name
  }

  output(name: string, type: ElementType, shape: readonly Dimension[]): void {
    this.#outputs.push((writer) => writeValueInfo(writer, name, type, shape))
  }

  /** Says the shape of a value inside the graph, which operators that are not ONNX's own leave unknown. */
  shape(name: string, type: ElementType, shape: readonly Dimension[]): void {
    this.#shapes.push((writer) => writeValueInfo(writer, name, type, shape))
  }

  weight(name: string, tensor: ExternalTensor): string {
    this.#initializers.push((writer) => writeExternal(writer, name, tensor, this.#dataFile))
    return name
  }

  /** A small constant of 64-bit integers, kept in the model itself. */
  constant(values: readonly number[]): string {
    const name = this.#fresh('const')
    this.#initializers.push((writer) => {
      integer(writer, 1, values.length)
      integer(writer, 2, elementType.i64)
      text(writer, 8, name)
      writer.tag(9, 2).bytes(new Uint8Array(BigInt64Array.from(values, BigInt).buffer))
    })
    return name
  }

  /** Adds a node with one output and answers its name. */
  node(op: string, inputs: readonly string[], attributes: Readonly<Record<string, Attribute>> = {}, domain = ''): string {
    const output = this.#fresh(op)
    this.nodeInto(op, inputs, [output], attributes, domain)
    return output
  }

  /** Adds a node with named outputs; `''` leaves an optional one out. */
  nodeInto(
    op: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes: Readonly<Record<string, Attribute>> = {},
    domain = '',
  ): void {
    const name = this.#fresh(op)
    this.#domains.add(domain)
    this.#nodes.push((writer) => {
      for (const input of inputs) text(writer, 1, input)
      for (const output of outputs) text(writer, 2, output)
      text(writer, 3, name)
      text(writer, 4, op)
      for (const [key, value] of Object.entries(attributes)) {
        message(writer, 5, (attribute) => writeAttribute(attribute, key, value))
      }
      if (domain !== '') text(writer, 7, domain)
    })
  }

  fresh(count: number, stem: string): string[] {
    return Array.from({ length: count }, () => this.#fresh(stem))
  }

  encode(): Uint8Array {
    const writer = new BinaryWriter()
    integer(writer, 1, IR_VERSION)
    text(writer, 2, 'quiver')
    message(writer, 7, (graph) => {
      for (const node of this.#nodes) message(graph, 1, node)
      text(graph, 2, 'quiver')
      for (const initializer of this.#initializers) message(graph, 5, initializer)
      for (const input of this.#inputs) message(graph, 11, input)
      for (const output of this.#outputs) message(graph, 12, output)
      for (const shape of this.#shapes) message(graph, 13, shape)
    })
    for (const domain of this.#domains) {
      message(writer, 8, (opset) => {
        text(opset, 1, domain)
        integer(opset, 2, opsets[domain] ?? 1)
      })
    }
    return writer.finish()
  }

  #fresh(stem: string): string {
    this.#counter += 1
    return `${stem}_${this.#counter}`
  }
}
