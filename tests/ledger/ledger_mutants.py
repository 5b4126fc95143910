"""Bugs planted in the ledger, to show that the tests would find them; each names the invariant that it breaks.

Each is a replacement in the source of one module, and a sentence that says what goes wrong. ``load`` makes fresh copies
of the modules with the bug in one of them; the real ones are left alone. Those of ``MUTANTS`` are found by random lives
of a ledger in one process; those of ``tests/torture`` need processes that are killed.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

# In the order of their imports. Requests are values, and stay the same in every copy.
MODULES = ["claims", "rows", "liveness", "bell", "watch", "round", "folders", "ledger", "deaths", "wishes", "client"]


@dataclass(frozen=True)
class Mutant:
    """One planted bug."""

    says: str
    breaks: str  #: ids of invariants
    module: str
    old: str
    new: str


MUTANTS = [
    # --- limits
    Mutant(
        says="a pool admits one slot more",
        breaks="I1",
        module="claims",
        old="return None if self.limit is None else self.limit - self.held",
        new="return None if self.limit is None else self.limit - self.held + 1",
    ),
    Mutant(
        says="only the first pool of a claim is looked at",
        breaks="I1 I6",
        module="claims",
        old="if all(weight <= room[pool] for pool, weight in limited):",
        new="if all(weight <= room[pool] for pool, weight in limited[:1]):",
    ),
    Mutant(
        says="what was granted a moment ago is not counted",
        breaks="I1",
        module="claims",
        old="            self._room[pool] -= weight",
        new="            self._room[pool] -= 0",
    ),
    Mutant(
        says="weights count as one",
        breaks="I5",
        module="rows",
        old="coalesce(sum(weight * (SELECT",
        new="coalesce(sum(1 * (SELECT",
    ),
    Mutant(
        says="the held slots of claims of another shape are not counted",
        breaks="I1",
        module="rows",
        old="AND claim.state = 'granted')), 0) FROM need WHERE pool = ?",
        new="AND claim.state = 'granted')), 0) FROM need WHERE pool = ? "
        "AND shape = (SELECT min(shape) FROM need AS other WHERE other.pool = need.pool)",
    ),
    Mutant(
        says="a claim larger than its pool is granted when the pool is empty",
        breaks="I5",
        module="claims",
        old="        if limit is not None and weight > limit:\n            return False",
        new="        if limit is not None and weight > limit + 1:\n            return False",
    ),
    Mutant(
        says="a claim that can never fit keeps others out",
        breaks="I5 I12",
        module="claims",
        old="        if can_ever_fit(line.needs, pools):",
        new="        if True:",
    ),
    Mutant(
        says="the default limit does not count",
        breaks="I18",
        module="rows",
        old="(name, name, default_limit),",
        new="(name, name, None),",
    ),
    Mutant(
        says="the configuration file beats the command",
        breaks="I18",
        module="rows",
        old="coalesce(explicit, yaml)",
        new="coalesce(yaml, explicit)",
    ),
    Mutant(
        says="a limit that was raised lets nobody in",
        breaks="I18",
        module="ledger",
        old="            if pools.set_explicit(transaction.execute, pool, limit):\n"
        "                change.touch({pool})",
        new="            pools.set_explicit(transaction.execute, pool, limit)",
    ),
    Mutant(
        says="a default that was raised lets nobody in",
        breaks="I18",
        module="ledger",
        old="            change.reload_default()\n",
        new="",
    ),
    # --- order
    Mutant(
        says="the newest comes first",
        breaks="I13",
        module="claims",
        old="else (1, -waiter.priority, waiter.seq)",
        new="else (1, -waiter.priority, -waiter.seq)",
    ),
    Mutant(
        says="the newest row comes first",
        breaks="I13",
        module="rows",
        old="ORDER BY priority DESC, seq",
        new="ORDER BY priority DESC, seq DESC",
    ),
    Mutant(
        says="the lower priority comes first",
        breaks="I14",
        module="claims",
        old="else (1, -waiter.priority, waiter.seq)",
        new="else (1, waiter.priority, waiter.seq)",
    ),
    Mutant(
        says="priority does not count among rows",
        breaks="I14",
        module="rows",
        old="ORDER BY priority DESC, seq",
        new="ORDER BY seq",
    ),
    Mutant(
        says="where few wait, their priority does not count",
        breaks="I14",
        module="rows",
        old="            if len(found) > 1:\n",
        new="            if False:\n",
    ),
    Mutant(
        says="of many who wait, only the oldest can be overdue",
        breaks="I12",
        module="rows",
        old="        if len(oldest) > FEW:\n            for",
        new="        if False:\n            for",
    ),
    Mutant(
        says="a claim loses its place when it is parked",
        breaks="I13",
        module="round",
        old="return self._update(\"state = 'waiting'\"",
        new="return self._update(\"state = 'waiting', filed = filed + 1e6\"",
    ),
    Mutant(
        says="what is parked or resumed lets nobody in",
        breaks="I20",
        module="round",
        old="        self._touch_needs(found)\n        return bool(found)",
        new="        return bool(found)",
    ),
    # --- bounded waiting
    Mutant(
        says="a claim that does not fit keeps nobody out",
        breaks="I12",
        module="claims",
        old="        for pool in closes:\n            room[pool] = 0\n",
        new="",
    ),
    Mutant(
        says="no claim is ever overdue",
        breaks="I12",
        module="rows",
        old="            if filed > self._overdue_since:  # and so is whoever comes after it\n",
        new="            if filed:\n",
    ),
    Mutant(
        says="an overdue claim comes in its usual place",
        breaks="I12",
        module="claims",
        old="return (0, 0, waiter.seq) if overdue else",
        new="return (1, -waiter.priority, waiter.seq) if overdue else",
    ),
    Mutant(
        says="an overdue claim keeps only full pools",
        breaks="I12",
        module="claims",
        old="whole = line.urgency is not Urgency.USUAL",
        new="whole = line.urgency is Urgency.PASSED",
    ),
    Mutant(
        says="a claim may be passed for ever",
        breaks="I12",
        module="claims",
        old="whole = line.urgency is not Urgency.USUAL",
        new="whole = line.urgency is Urgency.OVERDUE",
    ),
    Mutant(
        says="passes are not counted",
        breaks="I12",
        module="claims",
        old="        if self._refused:\n            self._pass",
        new="        if False:\n            self._pass",
    ),
    Mutant(
        says="a claim may be passed any number of times in one transaction",
        breaks="I12",
        module="claims",
        old="(count >= PASSES or weight > room)",
        new="weight > room",
    ),
    Mutant(
        says="a claim does not keep what lacks room for it only since it was passed",
        breaks="I12",
        module="claims",
        old="(count >= PASSES or weight > room)",
        new="count >= PASSES",
    ),
    Mutant(
        says="passes are forgotten with the transaction",
        breaks="I12",
        module="round",
        old='"UPDATE claim SET passed = ?, closes = ? WHERE seq = ?", (passed, passed >= PASSES, seq)',
        new='"UPDATE claim SET passed = ?, closes = ? WHERE seq < 0 * ?", (passed, passed >= PASSES, seq)',
    ),
    Mutant(
        says="a claim that was passed often is not marked",
        breaks="I12",
        module="round",
        old="(passed, passed >= PASSES, seq)",
        new="(passed, False, seq)",
    ),
    # --- pools that do not touch
    Mutant(
        says="a claim that does not fit keeps all of its pools",
        breaks="I15",
        module="claims",
        old="if whole or weight > room[pool]]",
        new="if True]",
    ),
    Mutant(
        says="a full pool ends the round",
        breaks="I15 I20",
        module="claims",
        old="            if keep:\n                _look_at_next(heads, line)",
        new="            if not keep:\n                break\n            _look_at_next(heads, line)",
    ),
    Mutant(
        says="pools that are connected by a waiting claim are not looked at",
        breaks="I1 I20",
        module="rows",
        old="                todo += more",
        new="                pass",
    ),
    # --- nobody is forgotten
    Mutant(
        says="a release lets nobody in",
        breaks="I20",
        module="round",
        old="        self._touch_needs(found)\n        return [seq for seq, _ in found]",
        new="        return [seq for seq, _ in found]",
    ),
    Mutant(
        says="only one is granted in each round",
        breaks="I20",
        module="claims",
        old="            if keep:\n                _look_at_next(heads, line)",
        new="            if keep and not self.granted:\n                _look_at_next(heads, line)",
    ),
    Mutant(
        says="those who come together are granted without looking at those who wait",
        breaks="I13 I14",
        module="round",
        old="        if shapes:\n            for claim in new:",
        new="        if shapes and not new:\n            for claim in new:",
    ),
    Mutant(
        says="a parked claim is granted",
        breaks="I20",
        module="rows",
        old="WHERE shape = ? AND state = 'waiting' AND closes = ? \"",
        new="WHERE shape = ? AND state <> 'granted' AND closes = ? \"",
    ),
    Mutant(
        says="a parked claim is granted where few wait",
        breaks="I20",
        module="rows",
        old="WHERE shape = ? AND state = 'waiting' \"\n                \"ORDER BY seq LIMIT ?",
        new="WHERE shape = ? AND state <> 'granted' \"\n                \"ORDER BY seq LIMIT ?",
    ),
    Mutant(
        says="a parked claim still holds its slots",
        breaks="I20",
        module="rows",
        old="AND claim.state = 'granted')), 0) FROM need WHERE pool = ?",
        new="AND claim.state <> 'waiting')), 0) FROM need WHERE pool = ?",
    ),
    # --- the dead
    Mutant(
        says="the dead keep others out",
        breaks="I11",
        module="claims",
        old="        if not self._is_alive(waiter.owner):\n            self.dead.append(waiter.seq)\n"
        "            return True\n"
        "        closes",
        new="        closes",
    ),
    Mutant(
        says="the dead are granted slots",
        breaks="I11",
        module="claims",
        old="        if not self._is_alive(waiter.owner):\n            self.dead.append(waiter.seq)\n"
        "            return True\n"
        "        self._last_token",
        new="        self._last_token",
    ),
    Mutant(
        says="what a dead owner held stays taken",
        breaks="I11",
        module="round",
        old='                freed += self.remove("seq = ?", seq)',
        new="                pass",
    ),
    Mutant(
        says="what a dead owner waited for stays in the way",
        breaks="I11",
        module="round",
        old="        freed = self.remove(\"owner = ? AND state <> 'granted'\", owner)\n",
        new="        freed = []\n",
    ),
    # --- tokens
    Mutant(
        says="a token comes twice",
        breaks="I7",
        module="round",
        old="        if self._counter != self._saved_counter:",
        new="        if self._counter > self._saved_counter + 1:",
    ),
    Mutant(
        says="a stale token releases the slots",
        breaks="I7",
        module="ledger",
        old='if not change.remove("seq = ? AND token = ?", lease.claim, lease.token):',
        new='if not change.remove("seq = ?", lease.claim):',
    ),
    Mutant(
        says="a stale token publishes a result",
        breaks="I7",
        module="ledger",
        old='"SELECT 1 FROM claim WHERE seq = ? AND token = ?", (lease.claim, lease.token)',
        new='"SELECT 1 FROM claim WHERE seq = ?", (lease.claim,)',
    ),
]


def load(mutant: Mutant | None) -> dict[str, ModuleType]:
    """The modules by name with this bug in one of them; None: copies without one.

    Raises:
        ValueError: what the mutant replaces does not stand in the source exactly once.
    """
    with _modules_put_back():
        for name in MODULES:
            exec_copy(name, mutant)
        return {name: sys.modules[f"executor.ledger.{name}"] for name in MODULES}


def plant(mutant: Mutant) -> None:
    """Put the bug into this process for good: for processes of a torture, which are forked from it."""
    for name in MODULES:
        exec_copy(name, mutant)


def exec_copy(name: str, mutant: Mutant | None) -> None:
    full = f"executor.ledger.{name}"
    spec = find_spec(full) if full not in sys.modules else sys.modules[full].__spec__
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    if mutant is not None and mutant.module == name:
        if source.count(mutant.old) != 1:
            raise ValueError(f"{mutant.old!r} stands {source.count(mutant.old)} times in {name}.py, not once")
        source = source.replace(mutant.old, mutant.new)
    module = types.ModuleType(full)
    module.__spec__ = spec
    sys.modules[full] = module
    setattr(sys.modules["executor.ledger"], name, module)  # for "from executor.ledger import name"
    exec(compile(source, spec.origin, "exec"), module.__dict__)


@contextmanager
def _modules_put_back() -> Iterator[None]:
    package = sys.modules["executor.ledger"]
    kept = {name: module for name, module in sys.modules.items() if name.startswith("executor.ledger.")}
    attributes = {name: getattr(package, name) for name in MODULES if hasattr(package, name)}
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.startswith("executor.ledger.")]:
            del sys.modules[name]
        sys.modules.update(kept)
        for name, module in attributes.items():
            setattr(package, name, module)
