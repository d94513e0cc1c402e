"""Inputs made of good ones: bytes flipped, cut, doubled, joined with others, and pieces that parsers stumble over."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

PIECES = (
    *(b"\x00", b"\xff", b"\xff\xda", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"%00", b"../", b"\r\n"),
    *(b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-1", b"9" * 40, b"0.1e-400", b"[]", b"{}", b'""', b","),
    *(
        b"[" * 2000,
        b'{"a":' * 500,
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 600,
    ),
    *(b"2026-03-01T12:00:00Z", b"9999-12-31T23:59:59-23:59", b"0001-01-01T00:00:00+23:59", "é𝔘\u202e".encode()),
)
MOST_BYTES = 20_000  # a mutation that grows what grew before must not grow without end


def mutated(random: Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds after one to six changes; sometimes unchanged, so that what is good is met too."""
    data = bytearray(random.choice(seeds))
    for _ in range(random.choice((0, 1, 1, 2, 3, 6))):
        start = random.randrange(len(data) + 1)
        end = min(len(data), start + random.choice((1, 2, 4, 16, 200)))
        match random.randrange(6):
            case 0 if data:
                data[start % len(data)] ^= 1 << random.randrange(8)
            case 1:
                del data[start:end]
            case 2:
                data[start:start] = data[start:end]
            case 3:
                data[start:end] = random.choice(PIECES)
            case 4:
                data[start:] = random.choice(seeds)[start:]
            case _:
                data[start:end] = random.randbytes(end - start)
    return bytes(data[:MOST_BYTES])
