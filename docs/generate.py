"""Writes the parts of the documents that are made from the code: ``python docs/generate.py`` rewrites them in place.

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. The tests make each part again and compare, so
a part that went stale is a failing test, and this command is what it asks for.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from executor.config.check import IN_PROCESS_SETTINGS  # noqa: E402  (found by the line above, also when not installed)
from executor.config.described import DESCRIBED  # noqa: E402  (as above)
from executor.scheduler import commands, events, outcomes  # noqa: E402  (as above)
from executor.scheduler.states import FINAL, MOVES, StepState  # noqa: E402  (as above)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

DOCS = ROOT / "docs"

TOLD, DERIVED = (*get_args(events.Told), events.StepReused), get_args(events.Derived)

PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def states() -> str:
    """The state diagram of a step, as Mermaid draws it."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> WAITING"]
    for state in StepState:
        lines += [f"    {state.name} --> {after.name}" for after in StepState if after in MOVES[state]]
    lines += [f"    {state.name} --> [*]" for state in StepState if state in FINAL]
    return "\n".join([*lines, "```"])


def state_meanings() -> str:
    """A row for each state: what it means, and where it leads."""
    said = comments(StepState)
    rows = [
        [f"`{s.value}`", said[s.name], ", ".join(f"`{a.value}`" for a in StepState if a in MOVES[s]) or "(final)"]
        for s in StepState
    ]
    return table(["state", "meaning", "may become"], rows)


def command_kinds() -> str:
    """A row for each command of the scheduler: its fields, and what it asks for."""
    rows = []
    for cls in get_args(commands.Command):
        fields = ", ".join(field.name for field in dataclasses.fields(cls))
        rows.append([f"`{cls.__name__}({fields})`", first_sentence(cls)])
    return table(["command", "what the driver is asked for"], rows)


def event_kinds() -> str:
    """A row for each kind of event: its fields, and the sentence that it carries."""
    rows = []
    for cls in get_args(events.Event):
        fields = ", ".join(f"`{field.name}`" for field in dataclasses.fields(cls))
        role = "told" if cls in TOLD else "derived" if cls in DERIVED else "of the run"
        rows.append([f"`{cls.kind}`", role, fields or "none", first_sentence(cls)])
    return table(["`e`", "", "fields", "what it says"], rows)


def event_parts() -> str:
    """A table for each of the records inside events."""
    parts = []
    for cls, where in (
        (events.Facts, "`facts`: what is known of an attempt after it"),
        (outcomes.StepError, "`error`: why it failed"),
        (outcomes.StoredValue, "each of `outputs`: where a value waits"),
        (events.SlotHolder, "each of `held_by`: who holds slots"),
    ):
        said = comments(cls)
        rows = [[f"`{name}`", said.get(name) or ""] for name in cls._fields]
        parts.append(f"**{where}**\n\n{table(['field', ''], rows)}")
    return "\n\n".join(parts)


def failure_kinds() -> str:
    """A row for each kind of failure."""
    source = inspect.getsource(outcomes)
    block = source[source.index("FailureKind = Literal[") :]
    found = re.findall(r'^    "(\w+)",  #: (.*)$', block[: block.index("]\n")], re.MULTILINE)
    return table(["`error.kind`", "meaning"], [[f"`{kind}`", text] for kind, text in found])


def run_config_keys() -> str:
    """A row for each key of a run config: its type, its default, what it means."""
    rows = [
        [f"`execution.config.{name}`", described.type, described.default, described.meaning]
        for name, described in DESCRIBED.items()
    ]
    kinds = " and ".join(f"`{name}`" for name in DESCRIBED if name in IN_PROCESS_SETTINGS)
    rows += [
        [
            "`execution.config.multiprocess`",
            "mapping of the keys above",
            "none",
            "the same keys, as Dagster nests them",
        ],
        ["`execution.config.in_process`", f"mapping of {kinds}", "none", "run one step after another in the driver"],
        ["`ops.NAME.config`", "what the op takes", "its defaults", "the config of the op or asset NAME"],
        [
            "`ops.GRAPH.ops.NAME.config`",
            "as above",
            "as above",
            "of an op inside a graph; also `ops: {GRAPH.NAME: ...}`",
        ],
        [
            "`tags.NAME`",
            "text, number, `true` or `false`; what is no text becomes JSON text",
            "none",
            "a tag of the run; it wins over the job's",
        ],
    ]
    return table(["key", "type", "default", "meaning"], rows)


def wrong_inputs() -> str:
    """A row for each wrong run config of the tests, with what it prints."""
    return table(["written (⏎ is a new line, ⇥ a tab)", "printed"], of_tests("config/wrong_inputs.py").rows())


def mutants() -> str:
    """A row for each bug that the tests of the scheduler plant."""
    module = of_tests("scheduler/mutants.py")
    return table(["planted bug", "in"], [[mutant.says, f"`{mutant.module}.py`"] for mutant in module.MUTANTS])


def invariants() -> str:
    """A row for each invariant of the ledger that planted bugs break."""
    return table(["", "what must hold"], [[name, text] for name, text in invariant_texts().items()])


def invariant_texts() -> dict[str, str]:
    """The invariants of the ledger, by their names."""
    texts: dict[str, str] = of_tests("ledger/invariants.py").INVARIANTS
    return texts


def broken(mutant: Any) -> str:
    """The invariants that a planted bug breaks.

    Raises:
        KeyError: there is no such invariant.
    """
    known = invariant_texts()
    unknown = [name for name in mutant.breaks.split() if name not in known]
    if unknown:
        raise KeyError(f"{mutant.says}: no invariant is named {' or '.join(unknown)}")
    return ", ".join(mutant.breaks.split())


def edited(mutant: Any) -> str:
    """The modules in which a bug of several places is planted."""
    return ", ".join(dict.fromkeys(f"`{module.rpartition('.')[2]}.py`" for module, _, _ in mutant.edits))


def ledger_mutants() -> str:
    """A row for each bug that random lives of a ledger in one process find."""
    module = of_tests("ledger/ledger_mutants.py")
    rows = [[mutant.says, broken(mutant), f"`{mutant.module}.py`"] for mutant in module.MUTANTS]
    return table(["planted bug", "breaks", "in"], rows)


def torture_mutants() -> str:
    """A row for each bug that the torture of processes finds."""
    module = of_tests("torture/mutants.py")
    rows = [[mutant.says, broken(mutant), edited(mutant)] for mutant in module.MUTANTS]
    return table(["planted bug", "breaks", "in"], rows)


def suite_mutants() -> str:
    """A row for each bug that one test finds, with that test."""
    module = of_tests("torture/suite_mutants.py")
    rows = [[mutant.says, broken(mutant), edited(mutant), f"`{mutant.test}`"] for mutant in module.MUTANTS]
    return table(["planted bug", "breaks", "in", "found by"], rows)


def of_tests(name: str) -> ModuleType:
    """A module of the tests.

    Raises:
        FileNotFoundError: it is not there.
    """
    spec = importlib.util.spec_from_file_location(f"docs_{Path(name).stem}", ROOT / "tests" / name)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(name)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where its dataclasses look for it
    spec.loader.exec_module(module)
    return module


PARTS: dict[str, Callable[[], str]] = {
    "command_kinds": command_kinds,
    "states": states,
    "state_meanings": state_meanings,
    "event_kinds": event_kinds,
    "event_parts": event_parts,
    "failure_kinds": failure_kinds,
    "invariants": invariants,
    "ledger_mutants": ledger_mutants,
    "mutants": mutants,
    "run_config_keys": run_config_keys,
    "suite_mutants": suite_mutants,
    "torture_mutants": torture_mutants,
    "wrong_inputs": wrong_inputs,
}


def generated(text: str) -> str:
    """The text of a page with every generated part made again.

    Raises:
        KeyError: a part has a name that is not known.
    """
    return PART.sub(lambda match: f"{match[1]}{PARTS[match[2]]()}\n{match[3]}", text)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table as Markdown has it."""
    lines = [head, ["---"] * len(head), *[[cell.replace("|", "\\|") for cell in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def comments(cls: type[Any]) -> dict[str, str]:
    """The ``#:`` comment of each field or member of a class, by name."""
    found = re.findall(r"^    (\w+)(?:: | = )[^#\n]*(?:  #: ([^\n]*))?$", inspect.getsource(cls), re.MULTILINE)
    return {name: as_markdown(text) for name, text in found}


def first_sentence(cls: type[Any]) -> str:
    """The first sentence of a class's docstring."""
    text = " ".join((inspect.getdoc(cls) or "").split())
    return as_markdown(re.split(r"(?<=\.) ", text)[0])


def as_markdown(text: str) -> str:
    """Code marked as docstrings do, marked as Markdown does."""
    return text.replace("``", "`")


if __name__ == "__main__":
    for page in sorted(DOCS.rglob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = generated(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(page.relative_to(ROOT))
