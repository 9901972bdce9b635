"""How soon a service that died is started again, and when to give it up.

The first death in a window restarts at once; further ones wait twice as long each time, so that a
broken installation does not burn a core. All times are milliseconds of one monotonic clock.
"""


class RestartRate:
    """The deaths of one service."""

    def __init__(self, limit: int, window_ms: int, pause_ms: int, essential: bool = False) -> None:
        """More than `limit` deaths in `window_ms`: an essential service is given up, since the session
        is of no use without it; another is started at the window's even rate from then on."""
        self.limit = limit
        self.window_ms = window_ms
        self.pause_ms = pause_ms
        self.essential = essential
        self.deaths: list[int] = []

    def died(self, now_ms: int) -> int | None:
        """The delay in ms before the next start, or None when the service is given up."""
        self.deaths = [then for then in self.deaths if now_ms - then < self.window_ms][-self.limit :]
        self.deaths.append(now_ms)
        count = len(self.deaths)
        if count > self.limit and self.essential:
            return None
        if count == 1:
            return 0
        even_rate_ms = self.window_ms // max(self.limit, 1)
        if count > self.limit:
            return even_rate_ms
        return min(self.pause_ms << (count - 2), even_rate_ms)
