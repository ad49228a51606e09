"""Raw H.264 that does not say its rate, as many cameras send it."""

from __future__ import annotations

import re


def without_rate(content: bytes) -> bytes:
    """A stream of the baseline profile with the end of its parameters, where the rate stands, cut
    off."""
    parts = re.split(rb"(\x00\x00\x00?\x01)", content)
    return b"".join(_short(part) if part and part[0] & 31 == 7 else part for part in parts)


def _short(unit: bytes) -> bytes:
    bits = "".join(f"{byte:08b}" for byte in unit[1:].replace(b"\0\0\3", b"\0\0"))
    place = 24  # profile, constraints, level

    def number() -> int:
        nonlocal place
        zeros = len(bits[place:]) - len(bits[place:].lstrip("0"))
        value = int(bits[place : place + 2 * zeros + 1], 2) - 1
        place += 2 * zeros + 1
        return value

    number(), number()  # its own number, bits of the frames' number
    if number() == 0:  # how pictures are counted
        number()
    number()  # frames referred to
    place += 1
    number(), number()  # width and height
    place += 2 if bits[place] == "1" else 3  # interlaced?
    place += 1
    if bits[place - 1] == "1":  # cut sides
        number(), number(), number(), number()
    short = bits[:place] + "01"
    short += "0" * (-len(short) % 8)
    raw = bytes(int(short[i : i + 8], 2) for i in range(0, len(short), 8))
    return unit[:1] + re.sub(rb"\x00\x00([\x00-\x03])", lambda m: b"\0\0\3" + m[1], raw)
