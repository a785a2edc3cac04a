export { MAX_CONFIG_BYTES } from './adapter-config.ts'
export { type ChatTemplateFileName, chatTemplateFiles, readChatTemplate } from './chat-template-file.ts'
export { f16ToNumber, readBf16, readF16, writeBf16, writeF16 } from './half.ts'
export {
  type AdapterFiles,
  type AdapterReport,
  adapterStartBytes,
  inspectAdapter,
  inspectAdapterStart,
  type WeightsStart,
} from './inspect.ts'
export { parseSafetensorsHeader, SAFETENSORS_PREFIX_BYTES, type SafetensorsEntry, safetensorsHeaderBytes } from './safetensors.ts'
export { maxWeightsBytes } from './validate.ts'
