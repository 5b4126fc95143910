"""How long a run is likely to go on: from the steps that are left, and what steps like them have taken so far. Pure.

Steps are alike when their keys differ only in the numbers that a job gives to several uses of one op (``clean``,
``clean_2``, …). What is left of a kind counts with the mean of those that ended; a kind of which none has ended, with
the mean of those in earlier runs of the job, and where there is none of these either with the mean of all. The work
that is left is shared out over as much as the run has lately done at once, whatever held it back; and it cannot be over
before the longest path that is left. O(1) per event, but for that path, which is looked for anew when one in a hundred
of the steps has ended, and only in plans that are small enough.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from executor.plan.plan import Plan

# The speed of a run is that of its latest attempts: a slow start, or a part without parallelism, is soon forgotten.
ENDS_REMEMBERED = 128

# A look for the longest path takes about a microsecond per step.
MOST_STEPS_FOR_PATH = 5000

# A step is slow that takes so many times as long as those like it took on average, if so many have ended.
SLOW_TIMES = 3.0
SLOW_AFTER_ENDS = 3
# ... and so many seconds; one of which nothing is known is slow after so many.
SLOW_LEAST_S = 1.0
SLOW_UNKNOWN_S = 60.0

_USE_NUMBER = re.compile(r"_\d+(?=\.|$)")


class Remaining:
    """What is left of a run. Tell it of each attempt that ends, and of each step that is over."""

    def __init__(self, plan: Plan, earlier_s: Mapping[str, float] | None = None) -> None:
        """``earlier_s``: seconds that steps took in earlier runs of the job, by key, as far as that is known."""
        self._plan = plan
        numbers: dict[str, int] = {}
        self._kind_of = [
            numbers.setdefault(_USE_NUMBER.sub("", step.key), len(numbers)) for step in plan.steps
        ]  #: step -> what it is alike with
        self._left = [0] * len(numbers)  #: of each kind: steps that are not over
        for kind in self._kind_of:
            self._left[kind] += 1
        self._ended = [0] * len(numbers)  #: of each kind: attempts that were measured, and the seconds of them all
        self._seconds = [0.0] * len(numbers)
        self._earlier: list[float | None] = self._means(numbers, earlier_s or {})  #: of each kind: in earlier runs
        known = [mean for mean in self._earlier if mean is not None]
        self._earlier_mean = sum(known) / len(known) if known else None  #: of all kinds
        self._over = bytearray(len(plan))
        self._known_s = sum(map(self._known, range(len(numbers))))  #: seconds of what is left of the kinds with a mean
        self._unknown = sum(
            left for left, mean in zip(self._left, self._earlier, strict=True) if mean is None
        )  #: steps left of the others
        self._all_ended, self._all_seconds = 0, 0.0
        self._ends: deque[tuple[float, float]] = deque(maxlen=ENDS_REMEMBERED)  #: when, and seconds of work until then
        self._path_s, self._path_at, self._path_due = 0.0, 0.0, 0

    def began(self, t: float) -> None:
        """The first attempt of the run began."""
        if not self._ends:
            self._ends.append((t, 0.0))

    def measured(self, index: int, seconds: float, t: float) -> None:
        """An attempt of a step took that long."""
        kind = self._kind_of[index]
        before = self._known(kind)
        if self._mean(kind) is None:
            self._unknown -= self._left[kind]
        self._ended[kind] += 1
        self._seconds[kind] += seconds
        self._known_s += self._known(kind) - before
        self._all_ended += 1
        self._all_seconds += seconds
        self._ends.append((t, self._all_seconds))

    def over(self, index: int) -> None:
        """A step is over, however it ended. Safe to tell twice."""
        if self._over[index]:
            return
        self._over[index] = 1
        kind = self._kind_of[index]
        before = self._known(kind)
        self._left[kind] -= 1
        self._known_s += self._known(kind) - before
        if self._mean(kind) is None:
            self._unknown -= 1
        self._path_due -= 1

    def usual_s(self, index: int) -> float | None:
        """What an attempt of such a step takes on average; None: none has ended, now or in an earlier run."""
        return self._mean(self._kind_of[index])

    def slow(self, index: int, took_s: float) -> bool:
        """Whether a step that has run for so long is one to look at."""
        kind = self._kind_of[index]
        if self._ended[kind] >= SLOW_AFTER_ENDS:
            return took_s >= max(SLOW_LEAST_S, SLOW_TIMES * self._seconds[kind] / self._ended[kind])
        earlier = self._earlier[kind]
        return took_s >= (SLOW_UNKNOWN_S if earlier is None else max(SLOW_LEAST_S, SLOW_TIMES * earlier))

    def left_s(self, now: float, running: Iterable[tuple[int, float]]) -> float | None:
        """Seconds until the run is likely to end; None: nothing is known yet.

        Args:
            now: the time of the run.
            running: the steps that run, and since when.
        """
        mean = self._all_seconds / self._all_ended if self._all_ended else self._earlier_mean
        if not self._ends or mean is None:
            return None
        work, lately = self._known_s + self._unknown * mean, 0.0
        since, done = self._ends[0]
        for index, began in running:
            usual = self.usual_s(index)
            work -= min(now - began, mean if usual is None else usual)
            lately += now - max(began, since)
        lately += self._all_seconds - done
        at_once = lately / (now - since) if now > since and lately > 0 else 1.0
        return max(0.0, work / at_once, self._path_left_s(now, mean, dict(running)))

    def _mean(self, kind: int) -> float | None:
        return self._seconds[kind] / self._ended[kind] if self._ended[kind] else self._earlier[kind]

    def _known(self, kind: int) -> float:
        return self._left[kind] * (self._mean(kind) or 0.0)

    def _means(self, numbers: Mapping[str, int], earlier_s: Mapping[str, float]) -> list[float | None]:
        """The mean of each kind in earlier runs; None: it was in none."""
        found: list[list[float]] = [[] for _ in numbers]
        for key, seconds in earlier_s.items():
            kind = numbers.get(_USE_NUMBER.sub("", key))
            if kind is not None:
                found[kind].append(seconds)
        return [sum(each) / len(each) if each else None for each in found]

    def _path_left_s(self, now: float, mean: float, running: dict[int, float]) -> float:
        """Seconds of the longest path through the steps that are not over."""
        size = len(self._plan)
        if size > MOST_STEPS_FOR_PATH:
            return 0.0
        if self._path_due <= 0:
            self._path_due = max(1, size // 100)
            self._path_at = now
            longest = [0.0] * size
            for index in range(size - 1, -1, -1):
                usual = self.usual_s(index)
                seconds = 0.0 if self._over[index] else mean if usual is None else usual
                if index in running:
                    seconds = max(0.0, seconds - (now - running[index]))
                longest[index] = seconds + max([longest[below] for below in self._plan.downstream[index]], default=0.0)
            self._path_s = max(longest, default=0.0)
        return self._path_s - (now - self._path_at)
