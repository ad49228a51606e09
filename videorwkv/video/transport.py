"""Where recordings were joined in an MPEG transport stream, and nothing was lost.

A transport stream consists of packets of 188 bytes, each with a counter of its stream. FFmpeg takes
every jump of the counter for a loss, and calls a frame beside it corrupt. N packets.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

SYNC = 0x47
LENGTH = 188
# Bytes of a packet in a file, and where in them it begins: plain, with a time stamp before (.mts of
# cameras), with a checksum behind.
LAYOUTS = ((188, 0), (192, 4), (204, 0))
# Read at a time; the product of the lengths, so that all of them fit in.
CHUNK = 188 * 192 * 204


def only_joined(source: str | bytes, stream: int) -> bool:
    """Whether the counters of a stream jump only where one recording ends and another begins.

    That is where the tables that every recording begins with come in between, the unit before was
    brought to its end (the rest of its last packet is stuffing), and another one begins.

    Args:
        source: path, or the file's content.
        stream: number of the stream (its PID).
    """
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
            return _only_joined(file, stream)
    except (OSError, ValueError):
        return False


def _only_joined(file: IO[bytes], stream: int) -> bool:
    head = file.read(CHUNK)
    layout = next((x for x in LAYOUTS if _fits(head, *x)), None)
    if layout is None:
        return False
    length, start = layout
    counter, is_ended, has_table = -1, False, False
    while len(head) >= length:
        whole = len(head) // length * length
        rows = np.frombuffer(head[:whole], np.uint8).reshape(-1, length)
        packets_NB = rows[:, start : start + LENGTH]
        if (packets_NB[:, 0] != SYNC).any() or (packets_NB[:, 1] & 0x80).any():
            return False  # cut in a packet, or a packet that the receiver called damaged
        streams_N = (packets_NB[:, 1] & 0x1F).astype(int) << 8 | packets_NB[:, 2]
        own_or_table = (streams_N == 0) | ((streams_N == stream) & (packets_NB[:, 3] & 0x10 > 0))
        for index in np.flatnonzero(own_or_table).tolist():
            if streams_N[index] == 0:
                has_table = True
                continue
            packet = packets_NB[index]
            begins, found = bool(packet[1] & 0x40), int(packet[3] & 0x0F)
            jumps = counter not in (-1, (found - 1) % 16) and not _is_announced(packet)
            if jumps and not (begins and is_ended and has_table):
                return False
            counter, is_ended, has_table = found, _is_stuffed(packet), False
        head = head[whole:] + file.read(CHUNK)
        if len(head) < length:
            break
    return True


def _fits(head: bytes, length: int, start: int) -> bool:
    marks = head[start : 8 * length : length]
    return len(marks) > 1 and set(marks) == {SYNC}


def _is_announced(packet: NDArray[np.uint8]) -> bool:
    """Whether the packet says itself that its counter begins anew."""
    return bool(packet[3] & 0x20 and packet[4] and packet[5] & 0x80)


def _is_stuffed(packet: NDArray[np.uint8]) -> bool:
    """Whether the packet has less to carry than it could: it is the last one of its unit."""
    if not packet[3] & 0x20 or not packet[4]:
        return bool(packet[3] & 0x20)
    flags = int(packet[5])
    # The length of what the flags announce: two clocks of 6 bytes, a countdown, private data.
    used = 1 + 6 * bool(flags & 0x10) + 6 * bool(flags & 0x08) + bool(flags & 0x04)
    if flags & 0x02:
        used += 1 + int(packet[min(5 + used, LENGTH - 1)])
    return int(packet[4]) > used
