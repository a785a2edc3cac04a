/** How often it is looked whether the parent is still there. */
const LOOK_MS = 500

/**
 * Tells when the process that started this one has ended: a killed `npm start` cannot pass its end on, and its server would go on
 * unseen, on the same port. There is no event for it, but an orphan gets another parent.
 * @param parentPid of this process, now
 */
export function onParentGone(parentPid: () => number, action: () => void): void {
  const first = parentPid()
  const timer = setInterval(() => {
    if (parentPid() === first) return
    clearInterval(timer)
    action()
  }, LOOK_MS)
  timer.unref()
}
