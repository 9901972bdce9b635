"""How many items the next task of a map takes.

A share of what remains, so that chunks get smaller towards the end and all workers end together; and
never so few that the tasks cost more than the work in them.
"""

from dataclasses import dataclass

SHARES = 4  # chunks that each worker would get if all were as large as the next one
LEAST_WORK_S = 0.0005  # in one chunk: a hundred times what a task costs
AHEAD = 2  # chunks on their way for each worker: one runs, one is there when it ends


@dataclass(frozen=True, slots=True)
class MapProgress:
    """What is known of a running map."""

    remaining: int  # items in no chunk yet
    workers: int  # tasks of this kind that can run at once
    fastest_item_s: float = 0.0  # measured in the chunks that are done; 0: none is


def chunk_size(progress: MapProgress) -> int:
    """Items for the next chunk: at least one, at most what remains."""
    share = -(-progress.remaining // (SHARES * progress.workers))
    worthwhile = int(LEAST_WORK_S / progress.fastest_item_s) if progress.fastest_item_s else 1
    return min(progress.remaining, max(share, worthwhile, 1))


def most_under_way(workers: int) -> int:
    """Chunks that may be submitted and unfinished at one time."""
    return AHEAD * workers
