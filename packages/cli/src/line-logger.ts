import type { Logger, LogLevel } from '@quiver/protocol'

const levels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error']

/** What ends a line or moves a terminal's cursor, in JavaScript's and in Unicode's sense. */
const CONTROL = /[\p{Cc}\u2028\u2029]/gu
const escaped = (character: string) =>
  character === '\n' ? '\\n' : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`

/** One line of text for each message: time, level, message, then the context as JSON. Below `least` nothing is written. */
export function lineLogger(output: NodeJS.WritableStream, now: () => Date, least: LogLevel): Logger {
  return (level, message, context = {}) => {
    if (levels.indexOf(level) < levels.indexOf(least)) return
    const more = Object.keys(context).length === 0 ? '' : ` ${JSON.stringify(context)}`
    // One message is one line, whatever stands in it. What JSON left of such characters may be written so in JSON too.
    const oneLine = `${message}${more}`.replace(CONTROL, escaped)
    output.write(`${now().toISOString()} ${level} ${oneLine}\n`)
  }
}
