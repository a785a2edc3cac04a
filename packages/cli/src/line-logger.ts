import type { Logger, LogLevel } from '@quiver/protocol'

const levels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error']

/** One line of text for each message: time, level, message, then the context as JSON. Below `least` nothing is written. */
export function lineLogger(output: NodeJS.WritableStream, now: () => Date, least: LogLevel): Logger {
  return (level, message, context = {}) => {
    if (levels.indexOf(level) < levels.indexOf(least)) return
    const more = Object.keys(context).length === 0 ? '' : ` ${JSON.stringify(context)}`
    // One message is one line, whatever stands in it.
    const oneLine = message.replaceAll('\n', '\\n')
    output.write(`${now().toISOString()} ${level} ${oneLine}${more}\n`)
  }
}
