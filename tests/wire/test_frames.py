"""Frames: cut anywhere they are the same, and what can't be one is refused as soon as that shows."""

import random

import pytest

from ray.wire import frames
from ray.wire.frames import DamagedFrameError, FrameReader, FrameWriter, MessageTooLargeError
from ray.wire.messages import MAX_FRAME_BYTES, Message, Ping, Run, Task, Want, pack
from tests.wire.samples import NEEDS, NODE, OBJECT, SAMPLES, TASK


def read_all(reader: FrameReader) -> list[Message]:
    found: list[Message] = []
    while (frame := reader.next_frame()) is not None:
        found += frame
    return found


def task(size: int) -> Run:
    return Run([Task(TASK, OBJECT, NODE, None, bytes(size), [], [], 1, NEEDS, 0, 0)])


def test_messages_of_one_turn_make_one_frame() -> None:
    writer = FrameWriter()
    for sample in SAMPLES:
        writer.add(sample)
    held = writer.held_bytes
    (frame,) = writer.take()
    assert len(frame) == held
    assert writer.held_bytes == 0
    assert writer.take() == []
    reader = FrameReader()
    reader.feed(bytes(frame))
    assert reader.next_frame() == SAMPLES
    assert reader.next_frame() is None
    assert reader.held_bytes == 0


def test_however_the_stream_is_cut() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    writer, sent = FrameWriter(), list(SAMPLES)
    for sample in SAMPLES:
        writer.add(sample)
    stream = b"".join(writer.take())
    for sample in reversed(SAMPLES):
        writer.add(sample)
        sent.append(sample)
        stream += b"".join(writer.take())
    for _ in range(50):
        reader, came, place = FrameReader(), list[Message](), 0
        while place < len(stream):
            step = choose.choice((1, 2, 5, 30, 1000))
            reader.feed(stream[place : place + step])
            place += step
            came += read_all(reader)
        assert came == sent
        assert reader.held_bytes == 0


def test_a_packed_message_is_the_message() -> None:
    writer = FrameWriter()
    for sample in SAMPLES:
        writer.add(pack(sample))
    reader = FrameReader()
    reader.feed(b"".join(writer.take()))
    assert reader.next_frame() == SAMPLES
    with pytest.raises(MessageTooLargeError):
        writer.add(pack(task(MAX_FRAME_BYTES)))
    assert writer.held_bytes == 0


def test_large_messages_get_frames_of_their_own() -> None:
    writer = FrameWriter()
    sent: list[Message] = [Ping(1), task(frames.BATCH_BYTES), Ping(2), task(100), task(MAX_FRAME_BYTES - 200)]
    for message in sent:
        writer.add(message)
    held = writer.held_bytes
    done = writer.take()
    assert sum(map(len, done)) == held
    assert all(len(frame) <= MAX_FRAME_BYTES + 4 for frame in done)
    assert [len(frame) > frames.BATCH_BYTES for frame in done] == [True, False, True]
    reader = FrameReader()
    for frame in done:
        reader.feed(bytes(frame))
    assert read_all(reader) == sent


def test_what_is_not_taken_leaves_no_trace() -> None:
    writer = FrameWriter()
    writer.add(Ping(1))
    held = writer.held_bytes
    with pytest.raises(MessageTooLargeError):
        writer.add(task(MAX_FRAME_BYTES))
    with pytest.raises(TypeError):
        writer.add(Want([object()]))  # type: ignore[list-item]
    assert writer.held_bytes == held
    reader = FrameReader()
    for frame in writer.take():
        reader.feed(bytes(frame))
    assert read_all(reader) == [Ping(1)]


def test_a_frame_too_long_is_refused_by_its_first_four_bytes() -> None:
    reader = FrameReader()
    reader.feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(DamagedFrameError, match="16,777,217 bytes is announced"):
        reader.next_frame()
    with pytest.raises(DamagedFrameError):
        reader.opening()


def test_what_a_frame_announces_is_not_reserved() -> None:
    reader = FrameReader()
    reader.feed(MAX_FRAME_BYTES.to_bytes(4, "big") + b"begun")
    assert reader.next_frame() is None
    assert reader.held_bytes == 9
    assert reader._held.__sizeof__() < 1000


def test_of_a_damaged_frame_nothing_is_handed_on() -> None:
    writer = FrameWriter()
    writer.add(Ping(1))
    writer.add(Ping(2))
    (frame,) = writer.take()
    frame[-1] = 0xC1  # what MessagePack never has
    reader = FrameReader()
    reader.feed(bytes(frame))
    with pytest.raises(DamagedFrameError, match="is damaged"):
        reader.next_frame()
