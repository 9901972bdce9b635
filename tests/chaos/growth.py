"""Whether something grows: samples over time, and the slope that most pairs of them agree on."""

import dataclasses
import statistics

WARM_UP = 0.25  # of the time, in which everything finds its size
PAIRED_MOST = 400  # samples of one series that are compared with each other


@dataclasses.dataclass(frozen=True)
class Bound:
    """The growth from warm-up to the end that is no growth: noise, and what finds its size late."""

    at_most: float
    unit: str
    share: float = 0.0  # of the median, if that is more


class Series:
    """Samples by name, each with its moment in seconds."""

    def __init__(self) -> None:
        self._samples: dict[str, list[tuple[float, float]]] = {}

    def add(self, moment_s: float, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._samples.setdefault(name, []).append((moment_s, value))

    def names(self) -> list[str]:
        return sorted(self._samples)

    def last(self, name: str) -> float:
        return self._samples[name][-1][1] if name in self._samples else 0.0

    def growth(self, name: str) -> float:
        """How much it has grown since the warm-up, at the median slope (Theil and Sen); 0 for few samples."""
        settled = self._settled(name)
        slopes = [
            (later - earlier) / (end - begin)
            for at, (begin, earlier) in enumerate(settled)
            for end, later in settled[at + 1 :]
            if end > begin
        ]
        return statistics.median(slopes) * (settled[-1][0] - settled[0][0]) if slopes else 0.0

    def allowed(self, name: str, bound: Bound) -> float:
        settled = self._settled(name)
        middle = statistics.median(value for _, value in settled) if settled else 0.0
        return max(bound.at_most, bound.share * middle)

    def _settled(self, name: str) -> list[tuple[float, float]]:
        samples = self._samples.get(name, [])
        if not samples:
            return []
        first, last = samples[0][0], samples[-1][0]
        settled = [each for each in samples if each[0] >= first + WARM_UP * (last - first)]
        return settled[:: 1 + len(settled) // PAIRED_MOST]
