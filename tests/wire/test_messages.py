"""Messages: each kind there and back, newer ones understood, and nothing beyond a bound."""

from typing import get_args

import msgspec
import pytest

from ray.core import options
from ray.wire import messages
from ray.wire.messages import DamagedMessageError, Hello, JobNote, Message, Ping, Result, Results
from tests.wire.samples import NODE, OBJECT, SAMPLES


def encoded(message: Message) -> bytes:
    into = bytearray()
    messages.append(message, into)
    return bytes(into)


def frame(*parts: bytes) -> bytes:
    return bytes([0x90 + len(parts)]) + b"".join(parts)


def test_there_and_back() -> None:
    for message in SAMPLES:
        assert messages.decode(frame(encoded(message))) == [message]


def test_the_samples_are_all_the_kinds_there_are() -> None:
    assert {type(sample) for sample in SAMPLES} == set(get_args(messages.AnyMessage))


def test_a_newer_release_may_add_fields_at_the_end() -> None:
    for message in SAMPLES:
        fields = msgspec.msgpack.decode(encoded(message))
        assert messages.decode(msgspec.msgpack.encode([[*fields, "new", {"more": 1}]])) == [message]


def test_version_and_release_are_understood_whatever_the_protocol() -> None:
    strange = msgspec.msgpack.encode([[0, 99, "7.0.0", 3.5, None]])
    opening = messages.decode_opening(strange)
    assert (opening.protocol, opening.release) == (99, "7.0.0")
    with pytest.raises(DamagedMessageError):
        messages.decode(strange)


WRONG: list[object] = [
    [2],  # a field is missing
    [2, -1],
    [2, "1"],
    [2, (1 << 64) - 1],
    [99, 1],  # no such kind
    ["Ping", 1],
    [],
    {"type": 2, "number": 1},
    [12, [b"t" * 15]],
    [12, [b"t" * 17]],
    [12, ["t" * 16]],
    [20, [[b"o" * 20]]],
    [20, [[b"o" * 20, 1, 2]]],
    [4, "x" * 1025],
    [40, OBJECT, NODE, ["x" * 4097], False],
    [40, OBJECT, NODE, [""] * 1025, False],
    [50, 1, [0, 0, 0, {str(name): 1 for name in range(1025)}], [], [], 0, 0],
]


def test_what_is_not_as_written_is_refused() -> None:
    for wrong in WRONG:
        try:
            decoded = messages.decode(msgspec.msgpack.encode([wrong]))
        except DamagedMessageError:
            continue
        pytest.fail(f"{wrong} was taken for {decoded}")


def test_a_value_above_the_bound_is_refused() -> None:
    most = messages.SMALL_VALUE_BYTES
    for size, fits in ((most, True), (most + 1, False)):
        for message in (
            Results([Result(OBJECT, 0, bytes(size), size, [])]),
            JobNote(OBJECT, 1, 0, size, 100, bytes(size)),
        ):
            if fits:
                assert messages.decode(frame(encoded(message))) == [message]
            else:
                with pytest.raises(DamagedMessageError, match="length <= 65536"):
                    messages.decode(frame(encoded(message)))


def test_a_task_has_no_more_returns_than_users_may_ask_for() -> None:
    """Each costs whoever takes the task a record, and a message of a hundred bytes could ask for billions."""
    assert messages.MAX_RETURNS == options.MAX_RETURNS
    for count, is_read in ((messages.MAX_RETURNS, True), (messages.MAX_RETURNS + 1, False)):
        task = messages.Task(OBJECT[:16], OBJECT, NODE, None, b"", [], [], count, messages.Resources(), 0, 0)
        body = msgspec.msgpack.encode([messages.Run([task])])
        if is_read:
            assert messages.decode(body) == [messages.Run([task])]
        else:
            with pytest.raises(DamagedMessageError):
                messages.decode(body)


def test_lengths_that_are_only_claimed_cost_nothing() -> None:
    for claim in (
        b"\xdd\xff\xff\xff\xff",
        b"\x91\x92\x0c\xdd\xff\xff\xff\xff",
        b"\x91\x92\x04\xdb\xff\xff\xff\xff",
    ):
        with pytest.raises(DamagedMessageError):
            messages.decode(claim)
    with pytest.raises(DamagedMessageError):
        messages.decode(b"\x91" * 100_000)
    # Of a field that nobody knows, too: it is passed over without being built.
    with pytest.raises((DamagedMessageError, RecursionError)):
        messages.decode(b"\x91\x93\x02\x01" + b"\x91" * 100_000)


def test_a_hello_of_this_protocol_is_one_message_among_others() -> None:
    hello = SAMPLES[0]
    assert isinstance(hello, Hello)
    assert messages.decode(frame(encoded(hello), encoded(Ping(1)))) == [hello, Ping(1)]
    with pytest.raises(DamagedMessageError):
        messages.decode_opening(frame(encoded(hello), encoded(Ping(1))))
