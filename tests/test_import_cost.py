"""``import executor`` is paid for by every fresh process, so it brings in nothing that a worker does not need."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ["pydantic", "yaml", "sqlite3", "rich", "click", "psutil", "multiprocessing", "asyncio", "logging", "threading",
         "subprocess", "cloudpickle", "json", "socket"]  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    extra = loaded_by("import executor") - loaded_by("pass")
    assert not extra & set(HEAVY)


def test_importing_the_package_loads_few_modules_of_its_own() -> None:
    own = {name for name in loaded_by("import executor") if name.startswith("executor")}
    assert not {name for name in own if name.split(".")[1:2] in (["workers"], ["runs"], ["cli"], ["api"])}


def test_every_public_name_can_be_found() -> None:
    import executor

    for name in executor.__all__:
        assert getattr(executor, name) is not None
