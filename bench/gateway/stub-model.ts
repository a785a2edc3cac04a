/** The model that the stub says it serves. */
export const STUB_MODEL = 'stub-model'
