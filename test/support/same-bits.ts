const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) => Buffer.from(buffer, byteOffset, byteLength)

/** Also of NaN and of zeros, which comparing numbers would not tell apart. */
export const sameBits = (left: Float32Array, right: Float32Array): boolean => bytesOf(left).equals(bytesOf(right))
