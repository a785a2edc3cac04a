import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'

interface Undo {
  /** In good order. */
  undo(): Promise<void>
  /** Where nothing can be waited for any more; must not throw. */
  undoNow(): void
}

/** What a bench has started and made, so that nothing stays behind, however it ends. */
export class CleanUp {
  readonly #undos = new Set<Undo>()

  /** @returns undoes it now, once */
  add(undo: Undo): () => Promise<void> {
    this.#undos.add(undo)
    return async () => {
      if (this.#undos.delete(undo)) await undo.undo()
    }
  }

  /** Undoes everything, the newest first. */
  async run(): Promise<void> {
    for (const undo of [...this.#undos].toReversed()) {
      if (this.#undos.delete(undo)) await undo.undo()
    }
  }

  /** The same from a process that ends at this very moment. */
  runNow(): void {
    for (const { undoNow } of [...this.#undos].toReversed()) undoNow()
    this.#undos.clear()
  }
}

/** A fresh folder that goes away with everything else. */
export async function temporaryFolder(cleanUp: CleanUp): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'quiver-bench-'))
  cleanUp.add({
    undo: () => rm(folder, { recursive: true, force: true }),
    undoNow: () => rmSync(folder, { recursive: true, force: true }),
  })
  return folder
}
