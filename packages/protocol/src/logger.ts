import type { ErrorContext } from './errors.ts'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

/** Where a part says what operators should know. `context` carries what the message must not spell out, such as paths. */
export type Logger = (level: LogLevel, message: string, context?: ErrorContext) => void
