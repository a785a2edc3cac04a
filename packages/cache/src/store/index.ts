export { FolderStore } from './folder-store.ts'
export type { ByteRange, GetOptions, ListOptions, ObjectEntry, ObjectStore, PutOptions, StoredObject } from './object-store.ts'
export { isStoreKey } from './store-key.ts'
export { putStoredAdapter, storedAdapterKeys } from './stored-adapter.ts'
