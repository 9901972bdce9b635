"""How soon a queue of waiting tasks is worth another look, for a node manager that could send some elsewhere.

Each task that is submitted to a full node is a reason to look. A burst that no other node can help with would
be looked at from its first task to its last, by a third process beside the two that do the work.
"""

from dataclasses import dataclass

LEAST_MS = 1.0
MOST_MS = 20.0
CALM_MS = 100  # without a look: what comes then is another burst


@dataclass(slots=True)
class QueueLooks:
    """Looks in vain follow each other at twice the distance each time."""

    pause_ms: float = 0.0
    last_ms: float = 0.0

    def looked(self, sent: bool, now_ms: float) -> float:
        """Milliseconds until the next look, after one that has sent tasks elsewhere, or has not."""
        goes_on = self.pause_ms and now_ms - self.last_ms <= CALM_MS
        self.last_ms = now_ms
        if sent:
            self.pause_ms = 0.0
        else:
            self.pause_ms = min(2 * self.pause_ms, MOST_MS) if goes_on else LEAST_MS
        return self.pause_ms
