/** One event of a server that streams may hold the log-probabilities of a long prompt. */
const EVENT_CHARACTERS_AT_MOST = 64 * 2 ** 20

/**
 * The data of server-sent events, parsed, up to `[DONE]`. Each event of vLLM and SGLang is one `data:` line.
 * @throws Error for what is not JSON, for a line that is too long, and for a stream that ends without `[DONE]`
 */
export async function* eventsOf(body: AsyncIterable<Uint8Array> | null): AsyncIterable<unknown> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of body ?? []) {
    rest += decoder.decode(chunk, { stream: true })
    let start = 0
    for (let end = rest.indexOf('\n'); end !== -1; end = rest.indexOf('\n', start)) {
      const data = dataOf(rest.slice(start, end))
      start = end + 1
      if (data === undefined) continue
      if (data === '[DONE]') return
      yield JSON.parse(data)
    }
    rest = rest.slice(start)
    if (rest.length > EVENT_CHARACTERS_AT_MOST) throw new Error('an event that is too long')
  }
  throw new Error('the stream broke off')
}

function dataOf(line: string): string | undefined {
  return line.startsWith('data:') ? line.slice('data:'.length).trim() : undefined
}
