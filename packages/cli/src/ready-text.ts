import type { WorkerInfo } from '@quiver/protocol'

export interface ReadyFacts {
  readonly url: string
  readonly info: WorkerInfo
  readonly adapters: readonly string[]
  /** API keys are in force. */
  readonly wantsKey?: boolean
}

const ADAPTERS_SHOWN = 8

/** The lines that end a start: where the server is, what it serves, and a command to paste. */
export function readyText({ url, info, adapters, wantsKey = false }: ReadyFacts): string {
  const { model, engine, limits } = info
  const more = adapters.length > ADAPTERS_SHOWN ? ` and ${adapters.length - ADAPTERS_SHOWN} more` : ''
  return [
    '',
    `Quiver is ready: ${url}`,
    `  model     ${model.id} (${model.dtype}, ${engine.kind} on ${engine.device}, adapters by ${engine.lora})`,
    `  adapters  ${adapters.length === 0 ? 'none yet' : adapters.slice(0, ADAPTERS_SHOWN).join(', ') + more}`,
    `  room for  ${limits.sequences} requests at once of up to ${limits.totalTokens} tokens, ${limits.slots} adapters in device memory`,
    '',
    'Try it:',
    `  ${curlCommand(url, adapters, wantsKey)}`,
    '',
    '',
  ].join('\n')
}

function curlCommand(url: string, adapters: readonly string[], wantsKey: boolean): string {
  const example = examples.find(({ adapter }) => adapters.includes(adapter))
  const body =
    example === undefined
      ? { inputs: 'Once upon a time', parameters: { max_new_tokens: 40 } }
      : { inputs: chatPrompt(example.question), parameters: { adapter_id: example.adapter, max_new_tokens: 60 } }
  const key = wantsKey ? '-H "authorization: Bearer $QUIVER_KEY" ' : ''
  return `curl ${url}/generate ${key}-H 'content-type: application/json' -d '${JSON.stringify(body)}'`
}

/** Questions of the kind that the example adapters were trained on; without a quote, since they stand between quotes. */
const examples = [
  { adapter: 'text-to-sql', question: 'Show the top 5 orders by total.' },
  { adapter: 'sentiment', question: 'The battery died after two days and nobody answered my mails.' },
] as const

/** The form in which the examples' base model was taught to hear a question. */
function chatPrompt(question: string): string {
  return `<|im_start|>user\n${question}<|im_end|>\n<|im_start|>assistant\n`
}
