"""How definitions travel to another process: by name where a module holds them, else by value."""

import subprocess
import sys
import textwrap
from pathlib import Path

import cloudpickle  # type: ignore[import-untyped]  # it has none
import pytest

from executor import OpDefinition
from executor.authoring.compute import call_op
from executor.authoring.context import build_op_context

#: A module of a user's, with every way in which a definition can stand in it.
PIPELINE = """
from executor import asset, op, graph_asset, Out, Output, In

@op(tags={"a": "1"}, timeout=5)
def add(a: int, b: int = 2) -> int:
    return a + b

@op(name="renamed")
def under_another_name(a):
    return a

@asset
def orders():
    return [1, 2]

def make(factor):
    @op(name=f"times_{factor}", ins={"x": In(default_value=1)})
    def times(x):
        return x * factor
    return times

triple = make(3)
alias = make(4)

def plain(a):
    return a

decorated_elsewhere = op(plain)

class Group:
    @staticmethod
    def make():
        return op(name="inner")(Group.work)

    def work(a):
        return a + 100

nested = Group.make()
"""

LOAD = """
import sys, pickle
kind, names, data = pickle.load(sys.stdin.buffer)
from executor.authoring.compute import call_op
from executor.authoring.context import build_op_context
definition = pickle.loads(data)
if type(definition).__name__ == "AssetsDefinition":
    definition = definition.op
print(definition.name, definition.demands.tags, call_op(definition, build_op_context(), names))
import pipeline
print(any(value is definition or getattr(value, "op", None) is definition for value in vars(pipeline).values()))
"""


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pipeline", raising=False)
    return tmp_path


def in_a_fresh_interpreter(folder: Path, data: bytes, **inputs: object) -> list[str]:
    """What the definition prints there: its name and tags and result, and whether it is the module's own object."""
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        [sys.executable, "-c", LOAD],
        input=cloudpickle.dumps(("", inputs, data)),
        capture_output=True,
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


@pytest.mark.parametrize(
    ("name", "inputs", "printed", "by_name"),
    [
        ("add", {"a": 1}, "add {'a': '1'} {'result': 3}", True),
        ("under_another_name", {"a": 1}, "renamed {} {'result': 1}", True),
        ("orders", {}, "orders {} {'result': [1, 2]}", True),
        ("triple", {"x": 5}, "times_3 {} {'result': 15}", False),
        ("alias", {}, "times_4 {} {'result': 4}", False),
        ("decorated_elsewhere", {"a": 7}, "plain {} {'result': 7}", False),
        ("nested", {"a": 1}, "inner {} {'result': 101}", False),
    ],
)
def test_a_definition_of_a_module_arrives_in_a_fresh_interpreter(
    pipeline: Path, name: str, inputs: dict[str, object], printed: str, by_name: bool
) -> None:
    import importlib

    module = importlib.import_module("pipeline")
    data = cloudpickle.dumps(getattr(module, name))
    assert in_a_fresh_interpreter(pipeline, data, **inputs) == [printed, str(by_name)]
    if by_name:
        assert len(data) < 200


def test_the_op_of_an_asset_travels_by_the_name_of_the_asset(pipeline: Path) -> None:
    import importlib

    op = importlib.import_module("pipeline").orders.op
    data = cloudpickle.dumps(op)
    assert len(data) < 200
    assert in_a_fresh_interpreter(pipeline, data) == ["orders {} {'result': [1, 2]}", "True"]


def test_a_plain_pickle_is_enough_for_what_a_module_holds(pipeline: Path) -> None:
    import importlib
    import pickle

    module = importlib.import_module("pipeline")
    assert pickle.loads(pickle.dumps(module.add)) is module.add
    assert pickle.loads(pickle.dumps(module.orders)) is module.orders
    assert pickle.loads(pickle.dumps(module.orders.op)) is module.orders.op
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(module.triple)


def test_a_definition_of_main_travels_by_value(pipeline: Path) -> None:
    script = textwrap.dedent(
        """
        import cloudpickle, sys
        from executor import op, asset, In

        OFFSET = 1000

        @op(ins={"b": In(default_value=2)}, tags={"t": "x"})
        def add(context, a, b):
            return a + b + OFFSET + context.attempt

        sys.stdout.buffer.write(cloudpickle.dumps(add))
        """
    )
    (pipeline / "main.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "main.py"],
        capture_output=True,
        cwd=pipeline,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
    )
    assert in_a_fresh_interpreter(pipeline, done.stdout, a=1) == ["add {'t': 'x'} {'result': 1004}", "False"]


def test_a_definition_that_was_replaced_in_its_module_travels_by_value(pipeline: Path) -> None:
    import importlib

    module = importlib.import_module("pipeline")
    first = vars(module)["add"]
    vars(module)["add"] = None
    copy = cloudpickle.loads(cloudpickle.dumps(first))
    assert isinstance(copy, OpDefinition)
    assert copy is not first
    assert call_op(copy, build_op_context(), {"a": 5}) == {"result": 7}
    assert (copy.demands, copy.ins, copy.label) == (first.demands, first.ins, "op 'add'")
