/**
 * The printable stand-ins for bytes of byte-level BPE (GPT-2, `encoder.py`): a vocabulary is written in characters, so every
 * byte that would be white space or invisible borrows a character from U+0100 on, in the order of the bytes.
 */
function isPrintable(byte: number): boolean {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff)
}

function makeAlphabet(): readonly string[] {
  let borrowed = 0x100
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : borrowed++))
}

/** The character that stands for each byte, by byte. */
export const byteCharacters: readonly string[] = makeAlphabet()

/** The byte that each of those characters stands for. */
export const characterBytes: ReadonlyMap<string, number> = new Map(byteCharacters.map((character, byte) => [character, byte]))
