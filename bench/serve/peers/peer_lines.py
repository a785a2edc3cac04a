"""The lines between a bench and a library: requests in, one line for each token that has come."""

import json
import queue
import sys
import threading


def say(**line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class Requests:
    """Read by a thread of its own, so that they come in while the library computes."""

    def __init__(self) -> None:
        self._queue: queue.Queue[dict | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            self._queue.put(json.loads(line))
        self._queue.put(None)

    def take(self, most: int, wait: bool) -> list[dict]:
        """So many that have come; waits for the first one if asked to. Ends the program where nobody can ask any more."""
        taken: list[dict] = []
        while len(taken) < most:
            try:
                request = self._queue.get(block=wait and not taken)
            except queue.Empty:
                break
            if request is None:
                raise SystemExit(0)
            taken.append(request)
        return taken
