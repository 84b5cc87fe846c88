"""A file of TensorBoard's events that is continued: nothing that stands in it is written once more.

The writers of TensorBoard and tensorboardX begin a new file whenever they are opened and read none.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

VERSION = "brain.Event:2"
LENGTH, CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")


class EventFile:
    def __init__(self, path: Path) -> None:
        """A record that was torn by a kill, and what lies behind it, is cut off; readers would stop there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.known: set[tuple[str, int, float]] = set()
        """Tag, step and time of what is there."""
        content, whole = path.read_bytes() if path.exists() else b"", 0
        for record, behind in _records(content):
            event = Event.FromString(record)
            self.known |= {(value.tag, event.step, event.wall_time) for value in event.summary.value}
            whole = behind
        if whole < len(content):
            os.truncate(path, whole)
        self.empty = not whole

    def add(self, summaries: Sequence[Summary], step: int, time_s: float) -> None:
        """Append what is not there: summaries of one value each, told at one time."""
        new = [one for one in summaries if (one.value[0].tag, step, time_s) not in self.known]
        events = [Event(summary=one, step=step, wall_time=time_s) for one in new]
        if self.empty and events:
            events.insert(0, Event(file_version=VERSION, wall_time=time_s))
        with self.path.open("ab") as file:
            file.write(b"".join(_framed(event.SerializeToString()) for event in events))
        self.empty = self.empty and not events
        self.known |= {(one.value[0].tag, step, time_s) for one in new}


def _framed(record: bytes) -> bytes:
    length = LENGTH.pack(len(record))
    return length + CHECKSUM.pack(masked_crc32c(length)) + record + CHECKSUM.pack(masked_crc32c(record))


def _records(content: bytes) -> Iterator[tuple[bytes, int]]:
    """The whole records from the beginning, each with the offset behind it."""
    start, head, tail = 0, LENGTH.size + CHECKSUM.size, CHECKSUM.size
    while len(content) >= start + head + tail:
        (length,) = LENGTH.unpack_from(content, start)
        record = content[start + head : start + head + length]
        if content[start : start + head + length + tail] != _framed(record):
            return
        start += head + length + tail
        yield record, start
