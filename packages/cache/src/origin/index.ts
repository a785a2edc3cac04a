export { type BucketAccess, BucketOrigin, type BucketPlace, parseBucketPlace } from './bucket.ts'
export { type HubAdapterReference, HubOrigin, type HubOriginDeps } from './hub.ts'
export type { AdapterEtags, FoundAdapter, Origin, OriginAdapter, OriginLimits, Provenance } from './origin.ts'
