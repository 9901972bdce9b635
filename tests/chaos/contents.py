"""Values of many sizes whose bytes are known by their number: for drivers of attacks and their workers."""

import random

MIB = 1 << 20
SIZES = (64 << 10, 256 << 10, MIB, 2 * MIB, 4 * MIB)

_source = random.Random(1).randbytes(2 * max(SIZES))


def sizes_of(total: int) -> list[int]:
    """So many of all sizes that they are as large together; the same for the same total."""
    draw = random.Random(total)
    sizes: list[int] = []
    while sum(sizes) < total:
        sizes.append(draw.choice(SIZES))
    return sizes


def content(number: int, size: int) -> memoryview:
    """What the value of this number is made of."""
    start = 64 * (number % (max(SIZES) // 64))
    return memoryview(_source)[start : start + size]
