"""Looks at a queue that nobody else can help with become rare, and soon again when something can be sent."""

from ray.policy.cluster.queue_looks import CALM_MS, LEAST_MS, MOST_MS, QueueLooks


def test_looks_in_vain_become_rare() -> None:
    looks = QueueLooks()
    now, count = 1_000.0, 0
    while now < 2_000:
        now += looks.looked(False, now)
        count += 1
    assert looks.pause_ms == MOST_MS
    assert count < 1_000 / MOST_MS + 6


def test_one_that_sends_is_followed_at_once() -> None:
    looks = QueueLooks()
    for now in range(5):
        looks.looked(False, now)
    assert looks.looked(True, 5) == 0
    assert looks.looked(False, 6) == LEAST_MS


def test_another_burst_begins_anew() -> None:
    looks = QueueLooks()
    for now in range(5):
        looks.looked(False, now)
    assert looks.looked(False, 5 + CALM_MS) == LEAST_MS
