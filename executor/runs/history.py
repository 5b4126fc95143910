"""The events of one run as one append-only file of text: one JSON object per line, written by one process.

``t`` is the time of the event in seconds since the run began, ``e`` its kind; fields that have their default are left
out. Readers may read while the file grows; a last line that a crash cut off is ignored by them and removed by the
next writer. Unaware of what the events mean: see ``scheduler/events.py``.
"""

from __future__ import annotations

import binascii
import json
import os
from dataclasses import MISSING, fields
from json.encoder import encode_basestring_ascii as quote
from typing import TYPE_CHECKING, Any, get_args

from executor.errors import ExecutorError
from executor.scheduler.events import (
    Event,
    Facts,
    SlotFreed,
    SlotHolder,
    StepFailed,
    StepReused,
    StepStarted,
    StepSucceeded,
)
from executor.scheduler.outcomes import StepError, StoredValue
from executor.workers import hygiene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# What a crash of the whole machine may cost: the events of this many seconds. (A crash of the run alone costs none.)
SYNC_EVERY_S = 1.0

NO_FACTS = Facts()


class HistoryLost(ExecutorError):
    """The events of a run can no longer be written, so the run must stop: nobody could tell what it did."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return (
            f"the history of the run could not be written to {self.path}: {self.reason}; the run was stopped, because "
            "its results could not be kept. Make room there, or set EXECUTOR_HOME to a folder on another disk"
        )


class HistoryUnreadable(ExecutorError):
    """A line of a history is not an event that this version of the package knows."""

    def __init__(self, path: str, line: int, reason: str) -> None:
        super().__init__(path, line, reason)
        self.path, self.line, self.reason = path, line, reason

    def __str__(self) -> str:
        where = f"line {self.line}" if self.line > 0 else "its last line"
        return (
            f"{self.path}, {where}: {self.reason}; the file was damaged, or written by a later version of this package"
        )


# --- one event as one line -------------------------------------------------------------------------------------------


def encode(event: Event, t: float) -> str:
    """The line for this event, without its end; pure ASCII. All is kept exactly, the time too, so that it replays.

    (Two surrogates in a row that make up one character come back as that character.)
    """
    return _ENCODERS[event.__class__](event, t)


def decode(line: str | bytes) -> tuple[float, Event]:
    """The time and the event of a line that ``encode`` wrote.

    Raises:
        ValueError: it is no such line; the text says why.
    """
    record = json.loads(line)
    if not isinstance(record, dict) or "t" not in record:
        raise ValueError("not an event")
    t, kind = record.pop("t"), record.pop("e", None)
    cls = _CLASSES.get(kind)
    if cls is None:
        raise ValueError(f"events of the kind {kind!r} are not known")
    for name, read in _READERS.items():
        if name in record:
            record[name] = read(record[name])
    try:
        return float(t), cls(**record)
    except TypeError as error:
        raise ValueError(f"fields of {kind} are missing or not known: {error}") from error


# These are written for each step, so they are spelled out, which makes them several times as fast.


def _encode_started(event: StepStarted, t: float) -> str:
    line = (
        f'{{"t":{t!r},"e":"step_started","key":{quote(event.key)},"attempt":{event.attempt}'
        f',"pid":{event.pid},"lane":{event.lane}'
    )
    if event.waited:
        line += ',"waited":[' + ",".join([f"[{quote(cause)},{seconds!r}]" for cause, seconds in event.waited]) + "]"
    return line + "}"


def _encode_succeeded(event: StepSucceeded, t: float) -> str:
    line = f'{{"t":{t!r},"e":"step_succeeded","key":{quote(event.key)},"attempt":{event.attempt}'
    return line + _outputs_text(event) + _facts_and_end(event.facts, freed=event.freed)


def _encode_reused(event: StepReused, t: float) -> str:
    line = f'{{"t":{t!r},"e":"step_reused","key":{quote(event.key)},"run_id":{quote(event.run_id)}'
    return line + _outputs_text(event) + "}"


def _outputs_text(event: StepSucceeded | StepReused) -> str:
    text = ""
    if event.outputs:
        text += ',"outputs":[' + ",".join([_stored_text(value) for value in event.outputs]) + "]"
    if event.missing:
        text += ',"missing":[' + ",".join([quote(name) for name in event.missing]) + "]"
    return text


def _encode_failed(event: StepFailed, t: float) -> str:
    error = {
        name: value for name, value in event.error._asdict().items() if value != _ERROR_DEFAULTS.get(name, MISSING)
    }
    line = f'{{"t":{t!r},"e":"step_failed","key":{quote(event.key)},"attempt":{event.attempt},"error":{_compact(error)}'
    if event.chance:
        line += f',"chance":{event.chance!r}'
    return line + _facts_and_end(event.facts, freed=event.freed)


def _encode_freed(event: SlotFreed, t: float) -> str:
    lingered = ',"lingered":true' if event.lingered else ""
    exited = "" if event.exit_code is None else f',"exit_code":{event.exit_code}'
    return f'{{"t":{t!r},"e":"slot_freed","key":{quote(event.key)},"attempt":{event.attempt}{lingered}{exited}}}'


def _stored_text(value: StoredValue) -> str:
    output, data, path, size = value
    text = '{"output":' + quote(output)
    if data is not None:
        text += f',"data":"{binascii.b2a_base64(data, newline=False).decode("ascii")}"'
    if path is not None:
        text += ',"path":' + quote(path)
    return f'{text},"size":{size}}}' if size else text + "}"


def _facts_and_end(facts: Facts, *, freed: bool) -> str:
    end = "}" if freed else ',"freed":false}'
    if facts == NO_FACTS:
        return end
    started_at, ended_at, cpu_s, peak_rss_bytes, pid, lane, log_from, log_to, exit_code = facts
    exited = "" if exit_code is None else f',"exit_code":{exit_code}'
    return (
        f',"facts":{{"started_at":{started_at!r},"ended_at":{ended_at!r},"cpu_s":{cpu_s!r}'
        f',"peak_rss_bytes":{peak_rss_bytes},"pid":{pid},"lane":{lane},"log_from":{log_from},"log_to":{log_to}{exited}}}'
        + end
    )


def _encoder(cls: type[Any]) -> Callable[[Any, float], str]:
    """How the rarer events are written: field by field, those with their default left out."""
    defaults = {
        field.name: field.default_factory() if field.default_factory is not MISSING else field.default
        for field in fields(cls)
    }

    def encode_fields(event: Any, t: float) -> str:
        record = {name: value for name, default in defaults.items() if (value := getattr(event, name)) != default}
        if "held_by" in record:
            record["held_by"] = [holder._asdict() for holder in record["held_by"]]
        return f'{{"t":{t!r},"e":"{cls.kind}"' + ("," + _compact(record)[1:] if record else "}")

    return encode_fields


_compact = json.JSONEncoder(separators=(",", ":")).encode
_ERROR_DEFAULTS = StepError._field_defaults
_CLASSES: dict[str, type[Any]] = {cls.kind: cls for cls in get_args(Event)}
_ENCODERS: dict[type[Any], Callable[[Any, float], str]] = {cls: _encoder(cls) for cls in _CLASSES.values()} | {
    StepStarted: _encode_started,
    StepSucceeded: _encode_succeeded,
    StepReused: _encode_reused,
    StepFailed: _encode_failed,
    SlotFreed: _encode_freed,
}


def _read_stored(record: dict[str, Any]) -> StoredValue:
    data = record.get("data")
    if data is not None:
        record["data"] = binascii.a2b_base64(data)
    else:
        record["data"] = None
    return StoredValue(**record)


#: How fields that JSON cannot hold as they are come back.
_READERS: dict[str, Callable[[Any], object]] = {
    "outputs": lambda values: tuple([_read_stored(value) for value in values]),
    "facts": lambda record: Facts(**record),
    "error": lambda record: StepError(**record),
    "waited": lambda pairs: tuple([(cause, seconds) for cause, seconds in pairs]),
    "held_by": lambda records: tuple([SlotHolder(**record) for record in records]),
    "missing": tuple,
    "pools": tuple,
    "keys": tuple,
    "limits": tuple,
}


# --- the file --------------------------------------------------------------------------------------------------------


class HistoryWriter:
    """Appends the events of a run to its file; the one writer that the file has.

    ``write`` only collects; ``flush`` hands what was collected to the system in one call (from there on a kill of
    this process loses nothing), ``sync`` to the disk. ``sync_at`` is when a sync is due, on the clock of the events.
    """

    def __init__(self, path: Path, *, sync_every_s: float = SYNC_EVERY_S) -> None:
        """Open the file of that path, made with mode 0600 where there is none.

        Raises:
            HistoryLost: it cannot be opened.
        """
        self.path = path
        self.sync_at: float | None = None  #: None: everything is on the disk
        self._sync_every_s = sync_every_s
        self._events: list[tuple[Event, float]] = []  #: not encoded yet: steps that can start do so first
        self._unwritten = b""  # what the system did not take at the last flush
        try:
            self._fd = hygiene.register(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
            try:
                os.fchmod(self._fd, 0o600)  # whatever the umask is
                _cut_torn_line(self._fd)
            except OSError:
                hygiene.close(self._fd)
                raise
        except OSError as error:
            raise HistoryLost(str(path), error.strerror or str(error)) from error

    def fileno(self) -> int:
        """The descriptor of the open file; -1 when closed."""
        return self._fd

    def write(self, event: Event, now_s: float) -> None:
        """Collect one event that happened ``now_s`` seconds after the run began.

        A scheduler that is told of the event must be told the same time, so that a replay meets the same due times.
        Nobody may change the event afterwards.
        """
        self._events.append((event, now_s))
        if self.sync_at is None:
            self.sync_at = now_s + self._sync_every_s

    def flush(self) -> None:
        """Hand the collected events to the system. What it does not take stays collected for the next flush.

        Raises:
            HistoryLost: the disk is full, or not there any more.
        """
        if self._events:
            events, self._events = self._events, []
            lines = [_ENCODERS[event.__class__](event, now_s) for event, now_s in events]
            self._unwritten += "\n".join([*lines, ""]).encode("ascii")
        while self._unwritten:
            try:
                taken = os.write(self._fd, self._unwritten)
            except OSError as error:
                raise HistoryLost(str(self.path), error.strerror or str(error)) from error
            self._unwritten = self._unwritten[taken:]

    def sync(self) -> None:
        """Flush, and wait until the disk has it all. Raises ``HistoryLost`` as ``flush`` does."""
        self.flush()
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise HistoryLost(str(self.path), error.strerror or str(error)) from error
        self.sync_at = None

    def close(self) -> None:
        """Sync and close. Safe to call twice. The file is closed also where ``HistoryLost`` is raised."""
        if self._fd < 0:
            return
        try:
            self.sync()
        finally:
            fd, self._fd = self._fd, -1
            hygiene.close(fd)


def _cut_torn_line(fd: int) -> None:
    """Remove a last line without an end, which a writer that was killed may have left."""
    size = end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)


class HistoryReader:
    """Reads a history that may still grow; each look gives the events that came since the last one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.behind = False  #: whether the last call left something unread
        self._offset = 0  # of the first line that was not read yet
        self._line = 0

    def read_new(self, most_bytes: int | None = None) -> list[tuple[float, Event]]:
        """The events, with their times, of all lines that were finished since the last call.

        ``most_bytes``: read no more than about so many; ``behind`` says whether there may be more.

        Raises:
            FileNotFoundError: there is no such history.
            HistoryUnreadable: a finished line is not an event.
        """
        with open(self.path, "rb") as file:
            file.seek(self._offset)
            data = file.read(-1 if most_bytes is None else most_bytes)
            self.behind = len(data) == most_bytes
            if self.behind and data[-1:] != b"\n":
                data += file.readline()  # a line may be longer than that
        finished = data[: data.rfind(b"\n") + 1]
        events = []
        for line in finished.split(b"\n")[:-1]:
            self._line += 1
            self._offset += len(line) + 1
            events.append(_decode_line(line, self.path, self._line))
        return events


def read_history(path: Path) -> Iterator[tuple[float, Event]]:
    """Each event of a history with its time, in order, in constant memory; a cut-off last line is left out.

    Raises:
        FileNotFoundError: there is no such history.
        HistoryUnreadable: a finished line is not an event.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                yield _decode_line(line, path, number)


def read_last(path: Path) -> tuple[float, Event] | None:
    """The last event of a history with its time, or None where there is none yet; reads the end of the file only.

    Raises:
        FileNotFoundError: there is no such history.
        HistoryUnreadable: the last finished line is not an event; the number given is counted from the end.
    """
    with open(path, "rb") as file:
        start = file.seek(0, os.SEEK_END)
        tail = b""
        while start > 0 and tail.count(b"\n") < 2:
            size = min(start, max(65536, len(tail)))  # doubled each time: a line may hold large values
            start -= size
            file.seek(start)
            tail = file.read(size) + tail
    lines = tail.split(b"\n")[:-1]
    return _decode_line(lines[-1], path, -1) if lines else None


def _decode_line(line: bytes, path: Path, number: int) -> tuple[float, Event]:
    try:
        return decode(line)
    except (ValueError, TypeError) as error:
        raise HistoryUnreadable(str(path), number, str(error)) from error
