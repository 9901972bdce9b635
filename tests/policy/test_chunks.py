from hypothesis import given, settings
from hypothesis import strategies as st

from ray.policy.chunks import LEAST_WORK_S, SHARES, MapProgress, chunk_size


def chunks(items: int, workers: int, item_s: float) -> list[int]:
    """All sizes of a map whose first chunks are made before any is done."""
    sizes: list[int] = []
    while left := items - sum(sizes):
        known = item_s if len(sizes) >= workers else 0.0
        sizes.append(chunk_size(MapProgress(left, workers, known)))
    return sizes


@settings(deadline=None)
@given(st.integers(1, 10**5), st.integers(1, 200), st.floats(1e-8, 10))
def test_every_item_is_in_one_chunk(items: int, workers: int, item_s: float) -> None:
    sizes = chunks(items, workers, item_s)
    assert sum(sizes) == items
    assert min(sizes) >= 1


@settings(deadline=None)
@given(st.integers(1, 10**5), st.integers(1, 64), st.floats(1e-8, 1))
def test_no_chunk_is_more_than_its_share_or_worth_a_task(items: int, workers: int, item_s: float) -> None:
    left = items
    for size in chunks(items, workers, item_s):
        assert size <= max(-(-left // (SHARES * workers)), LEAST_WORK_S / item_s, 1)
        left -= size


def test_long_items_end_one_by_one() -> None:
    assert chunks(1000, 2, 0.01)[-7:] == [1] * 7


def test_short_items_take_few_tasks() -> None:
    assert len(chunks(10**6, 2, 1e-7)) < 60
