export { MAX_CONFIG_BYTES } from './adapter-config.ts'
export { readBf16, readF16, writeF16 } from './half.ts'
export { type AdapterFiles, type AdapterReport, inspectAdapter } from './inspect.ts'
export { maxWeightsBytes } from './validate.ts'
