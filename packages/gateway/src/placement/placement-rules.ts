/** What placement weighs with. Found by simulation (`npm run bench -- placement`). */
export interface PlacementRules {
  /** Workers of an adapter's rendezvous order that may take it when it is not there yet. */
  readonly newcomers: number
  /**
   * A worker above this multiple of the mean load takes no newcomer. Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with
   * bounded loads", 2018. They speak of 1.25; with 1.5 fewer adapters were loaded twice and the p99 was lower.
   */
  readonly loadBound: number
  /** Share of the best prediction by which another candidate may be worse and still be preferred because it is the usual one. */
  readonly stickiness: number
  /** Predictions closer than this many ms are alike. */
  readonly alikeMs: number
  /** Seconds of the victim's traffic that an eviction is charged with. */
  readonly harmSeconds: number
}

export const placementRules: PlacementRules = {
  newcomers: 3,
  loadBound: 1.5,
  stickiness: 0.3,
  alikeMs: 10,
  harmSeconds: 20,
}
