"""Which steps are not needed because outputs that they read were left out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from executor.plan.plan import Plan, Source


class _FanIn:
    """One fan-in input of one step."""

    __slots__ = ("first", "left")

    def __init__(self, first: Source, left: int) -> None:
        self.first = first  #: the source that is named as the reason
        self.left = left  #: how many of its sources were not left out so far


class LeftOut:
    """Keeps count of the outputs that were left out, and says whose inputs they decide.

    A plain input is decided by any of its sources, a fan-in input only when all of its sources were left out.
    Order-only inputs follow the same rule. O(edges) once to build, then O(readers) per output.
    """

    def __init__(self, plan: Plan) -> None:
        # Source step -> output -> the inputs that it fills: the index of the step that reads, and the fan-in if it is.
        self._readers: dict[int, dict[str, list[tuple[int, _FanIn | None]]]] = {}
        for step in plan.steps:
            for item in step.inputs:
                fan_in = _FanIn(item.sources[0], len(item.sources)) if item.fan_in and item.sources else None
                for source in item.sources:
                    readers = self._readers.setdefault(source.step, {}).setdefault(source.output, [])
                    readers.append((step.index, fan_in))

    def leave_out(self, index: int, outputs: Iterable[str] | None) -> Iterator[tuple[int, int, str]]:
        """The steps that are not needed now that step ``index`` left these outputs out, or all of them (None).

        Each is given as its index, and the step and the output to name as the reason; a step may come twice. Ask once
        for each output.
        """
        read = self._readers.get(index, {})
        for output in read if outputs is None else outputs:
            for reader, fan_in in read.get(output, ()):
                if fan_in is None:
                    yield reader, index, output
                    continue
                fan_in.left -= 1
                if fan_in.left == 0:
                    yield reader, fan_in.first.step, fan_in.first.output
