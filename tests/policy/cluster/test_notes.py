from hypothesis import given
from hypothesis import strategies as st

from ray.policy.cluster.notes import (
    BACKLOG_BYTES,
    BURST_BYTES,
    FAILURES_WAITING,
    KEPT_BYTES,
    PARTIAL_MS,
    PIECE_BYTES,
    RATE_BYTES_S,
    WINDOW_BYTES,
    Failure,
    FailuresSent,
    Noted,
    OutputSent,
    Pace,
)

NODE, OTHER, ROOT = b"n" * 20, b"o" * 20, b"r" * 20


def test_no_more_is_under_way_than_the_window() -> None:
    output = OutputSent()
    assert output.room() == WINDOW_BYTES
    output.sent = WINDOW_BYTES
    assert output.room() == 0
    output.on_confirmed(WINDOW_BYTES // 2)
    assert output.room() == WINDOW_BYTES // 2
    output.begin_again()  # the link has broken
    assert output.sent == WINDOW_BYTES // 2


def test_of_too_much_the_end_is_kept() -> None:
    output = OutputSent(confirmed=100, sent=100)
    assert output.skip_to(100 + BACKLOG_BYTES) is None
    assert output.skip_to(101 + BACKLOG_BYTES) == 101 + BACKLOG_BYTES - KEPT_BYTES


def test_lines_go_whole_unless_their_end_is_slow_to_come() -> None:
    output = OutputSent()
    assert output.whole_lines(b"one\ntwo\n", 8, False, 0, False) == 8
    assert output.whole_lines(b"one\ntw", 6, False, 0, False) == 4
    assert output.whole_lines(b"one\ntw", 6, False, 0, True) == 6
    assert output.whole_lines(b"one\ntw", 100, True, 0, True) == 4  # the line goes on in the next piece
    assert output.whole_lines(b"long", 100, True, 0, True) == 0  # there is no room for more of it now
    assert output.whole_lines(bytes(PIECE_BYTES), 2 * PIECE_BYTES, True, 0, False) == PIECE_BYTES
    assert output.whole_lines(b"tw", 6, False, PARTIAL_MS - 1, False) == 0
    assert output.whole_lines(b"tw", 6, False, PARTIAL_MS, False) == 2
    assert output.whole_lines(b"two", 7, False, 2 * PARTIAL_MS, False) == 0  # there is more of it since


def failures(*sequences: int, size: int = 10) -> list[Failure]:
    return [Failure(sequence, 100, bytes(size)) for sequence in sequences]


def told(sent: FailuresSent) -> list[int]:
    found = []
    while failure := sent.next():
        found.append(failure.sequence)
    return found


def test_failures_are_told_in_order_and_again_after_a_break() -> None:
    sent = FailuresSent(confirmed=3)
    for failure in failures(2, 3, 5, 8, 9):
        sent.add(failure)
    assert told(sent) == [5, 8, 9]
    sent.on_confirmed(5)
    assert told(sent) == []
    sent.begin_again()
    assert told(sent) == [8, 9]
    sent.on_confirmed(9)
    sent.begin_again()
    assert told(sent) == []


def test_failures_without_end_are_counted() -> None:
    sent = FailuresSent()
    for failure in failures(*range(1, FAILURES_WAITING + 8)):
        sent.add(failure)
    assert sent.left_out == 7
    assert len(told(sent)) == FAILURES_WAITING


def test_large_failures_wait_for_the_window() -> None:
    sent = FailuresSent()
    for failure in failures(*range(1, 101), size=WINDOW_BYTES // 4):
        sent.add(failure)
    assert told(sent) == [1, 2, 3, 4]
    sent.on_confirmed(2)
    assert told(sent) == [5, 6]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=40), st.data())
def test_whatever_is_sent_again_is_written_once(ends: list[int], data: st.DataObject) -> None:
    """A sender goes back, and cuts the rest otherwise: every byte is written once, in order."""
    text = bytes(range(41))
    noted, written, place = Noted(), b"", 0
    for end in ends:
        start = data.draw(st.integers(0, place))  # what was confirmed, or anything before
        end = max(start, min(end, 40))
        piece = text[start:end]
        at = noted.fresh(NODE, ROOT, 1, start, end, len(piece))
        if at is not None:
            written += piece[at:]
        place = noted.enter(NODE, ROOT, 1, end)
        assert written == text[:place]


def test_streams_are_each_nodes_and_each_jobs() -> None:
    noted = Noted()
    noted.enter(NODE, ROOT, 1, 10)
    assert noted.fresh(NODE, ROOT, 1, 0, 10, 10) is None
    assert noted.fresh(NODE, ROOT, 2, 0, 10, 10) == 0
    assert noted.fresh(OTHER, ROOT, 1, 0, 10, 10) == 0
    assert noted.fresh(NODE, OTHER, 1, 0, 10, 10) == 0
    assert noted.fresh(NODE, ROOT, 1, 5, 1000, 20) == 0  # what says that something is left out
    noted.forget_node(NODE)
    assert noted.fresh(NODE, ROOT, 1, 0, 10, 10) == 0
    noted.enter(NODE, ROOT, 1, 10)
    noted.keep_jobs({OTHER})
    assert noted.fresh(NODE, ROOT, 1, 0, 10, 10) == 0


def test_a_burst_is_taken_at_once_and_a_flood_at_its_rate() -> None:
    pace = Pace(0)
    assert pace.take(BURST_BYTES, 0) == 0
    assert pace.take(RATE_BYTES_S, 0) == 1000
    assert pace.take(RATE_BYTES_S, 500) == 2000
    assert pace.take(1000, 60_000) == 60_000
