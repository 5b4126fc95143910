"""Which value files of a run somebody may still read, and the removal of the others.

A file is removed when every step that reads from its step has succeeded or was skipped: no attempt of this run can ask
for it any more. A step that failed or was cut off keeps what it reads, since a resumed run will read it again. What no
step reads is a result of the run, and the value of an asset is what the asset is for; both stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.outputs.values import remove_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.plan.plan import Plan
    from executor.runs.home import RunFolder
    from executor.scheduler.outcomes import StoredValue


class ValueFiles:
    """The value files of one run."""

    def __init__(self, plan: Plan, folder: RunFolder, *, keep_all: bool) -> None:
        self._plan, self._folder, self._keep_all = plan, str(folder.values), keep_all
        self._needed: set[str] = set()
        self._passing: dict[int, list[str]] = {}  #: step index -> its files that go when all have read them
        self.due: list[str] = []  #: nobody needs them; removed as soon as the history says why

    def is_needed(self, path: str) -> bool:
        """Whether the file at this path in the folder of values is to stay."""
        return path in self._needed

    def made(self, index: int, outputs: Iterable[StoredValue]) -> None:
        """A step has succeeded with these outputs, some of which are files."""
        for value in outputs:
            if value.path is None or value.path.startswith("/"):  # small, or of another run, which may need it
                continue
            self._needed.add(value.path)
            if not self._keep_all and self._passes(index, value.output):
                self._passing.setdefault(index, []).append(value.path)

    def was_read(self, index: int) -> None:
        """Nobody will read from this step any more."""
        self.due += self._passing.pop(index, ())

    def remove_due(self) -> None:
        """Remove what nobody needs. Only after the history has been written that tells who has read it."""
        due, self.due = self.due, []
        for path in due:
            self._needed.discard(path)
            remove_value(path, self._folder)

    def _passes(self, index: int, output: str) -> bool:
        """Whether an output is only passed on: other steps read it, and it is no asset."""
        declared = next((item for item in self._plan.steps[index].outputs if item.name == output), None)
        if declared is None or declared.asset is not None:
            return False
        return any(
            source.step == index and source.output == output
            for below in self._plan.downstream[index]
            for item in self._plan.steps[below].inputs
            if not item.order_only
            for source in item.sources
        )
