"""Wrong run configs, each with what it must say: for the tests, and for the table in docs/configuration.md."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest import mock

from pydantic import Field

from executor import Config, ConfigError, graph, job, op
from executor.config.config_files import read_files
from executor.config.layers import LayeredConfig


class LoadConfig(Config):
    rows: int = Field(default=10, gt=0)
    mode: Literal["full", "delta"] = "full"
    api_key: str = ""


@dataclass
class TrainConfig:
    rate: float = 0.1
    layers: list[int] = field(default_factory=list)
    verbose: bool = False


@op
def load(config: LoadConfig) -> int:
    return config.rows


@op
def train(rows: int, config: TrainConfig) -> float:
    return rows * config.rate


@op(config_schema={"title": str})
def report(context, model):
    return context.op_config["title"]


@op
def clean(rows: int) -> int:
    return rows


@graph
def publish(model):
    return report(model)


@job(config={"ops": {"publish": {"ops": {"report": {"config": {"title": "of the day"}}}}}})
def daily():
    publish(train(clean(load())))


class Wrong(NamedTuple):
    """One wrong run config."""

    written: str | dict[str, Any]  #: the text of run.yaml, or a dict in Python
    says: str  #: part of what is said of it


MANY_ALIASES = "a: &a [0,0,0,0,0,0,0,0,0,0]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcd", "bcde", strict=True)
)

#: What the page shows in place of a text that is too long for it.
SHOWN = {MANY_ALIASES: "a: &a [0, ... ten of them] ⏎ b: &b [*a, ... ten] ⏎ c: &c [*b, ... ten] ⏎ and so on"}

WRONG = [
    # keys
    Wrong("execution: {config: {multiprocess: {max_concurent: 4}}}", 'did you mean "max_concurrent"'),
    Wrong({"execution": {"config": {"multiprocess": {"max_concurent": 4}}}}, "execution.config.multiprocess: unknown"),
    Wrong("executoin: {config: {max_concurrent: 4}}", 'did you mean "execution"'),
    Wrong("execution: {cofnig: {max_concurrent: 4}}", 'did you mean "config"'),
    Wrong("execution:\n  config: {max_concurrent: 4}\nexecution:\n  config: {}", "a second time, after line 1"),
    Wrong("execution: {config: {multiprocess: {}, max_concurrent: 2}}", 'put settings inside "multiprocess"'),
    Wrong("execution: {config: {multiprocess: {}, in_process: {}}}", "name one executor"),
    Wrong("resources: {db: {config: {}}}", "this version has no resources"),
    # wrong places
    Wrong("tag_concurrency_limits: [{key: database, limit: 1}]", "stand under execution.config. Write:"),
    Wrong({"max_concurrent": 4}, "stand under execution.config. Write:"),
    Wrong("config: {max_concurrent: 4}", "stand under execution.config. Write:"),
    Wrong("execution: {max_concurrent: 4}", "stand under execution.config. Write:"),
    Wrong("multiprocess: {max_concurrent: 4}", "stand under execution.config. Write:"),
    Wrong("execution: {multiprocess: {config: {max_concurrent: 4}}}", "stand under execution.config. Write:"),
    Wrong("concurrency: {pools: {default_limit: 3}}", "executor.yaml of the home folder"),
    Wrong("max_concurrent_runs: 3", "executor.yaml of the home folder"),
    Wrong("pool: database", "it is said in the code: @op(pool=...)"),
    Wrong("load: {config: {rows: 3}}", "config of ops stands under ops. Write:"),
    Wrong("solids: {load: {config: {rows: 3}}}", "here it is ops. Write:"),
    Wrong("ops: {load: {rows: 3}}", "it belongs under config. Write:"),
    Wrong("ops: {load: {pool: database}}", "@op(pool=...)"),
    # values of settings
    Wrong('execution: {config: {max_concurrent: "4"}}', "write it without quotes: 4"),
    Wrong("execution: {config: {max_concurrent: -1}}", "-1 is not allowed"),
    Wrong("execution: {config: {max_concurrent: 2.5}}", "2.5 is not a whole number"),
    Wrong("execution: {config: 4}", "is not a dict"),
    Wrong("execution: {config: {start_method: forked}}", 'did you mean "fork"'),
    Wrong("execution: {config: {retries: maybe}}", "is neither {enabled: {}} nor {disabled: {}}"),
    Wrong("execution: {config: {steps_per_worker: 0}}", "0 is not allowed"),
    Wrong("execution: {config: {stop_grace_s: -1}}", "is not a number of seconds"),
    Wrong("execution: {config: {in_process: {max_concurrent: 2}}}", "runs one step at a time"),
    Wrong("execution: {config: {tag_concurrency_limits: {key: a, limit: 1}}}", "is not a list"),
    Wrong("execution: {config: {tag_concurrency_limits: [{key: a}]}}", "has no limit"),
    Wrong("execution: {config: {tag_concurrency_limits: [{limit: 1}]}}", "has no key"),
    Wrong("execution: {config: {tag_concurrency_limits: [{key: a, limit: 0}]}}", "1 or more"),
    Wrong("execution: {config: {tag_concurrency_limits: [{key: a, value: 5, limit: 1}]}}", 'write it with quotes: "5"'),
    Wrong("execution: {config: {tag_concurrency_limits: [{key: a, limit: 1}, {key: a, limit: 2}]}}", "a second time"),
    # ops and their config
    Wrong("ops: {laod: {config: {rows: 3}}}", 'unknown op "laod" under ops; did you mean "load"?'),
    Wrong("ops: {load: {config: {row: 3}}}", 'did you mean "rows"'),
    Wrong("ops: {load: {config: {rows: many}}}", "is not a whole number"),
    Wrong({"ops": {"load": {"config": {"rows": "3"}}}}, "write it without quotes: 3"),
    Wrong("ops: {load: {config: {rows: 0}}}", "greater than 0"),
    Wrong("ops: {load: {config: {mode: dleta}}}", 'did you mean "delta"'),
    Wrong("ops: {load: {config: {api_key: 12345}}}", "*** is not text"),
    Wrong("ops: {train: {config: {rate: fast}}}", '"fast" is not a number'),
    Wrong("ops: {train: {config: {layers: [8, x]}}}", "layers[1]"),
    Wrong("ops: {train: {config: {verbose: 1}}}", "is not true or false"),
    Wrong("ops: {publish: {ops: {report: {config: {titel: x}}}}}", 'did you mean "title"'),
    Wrong("ops: {publish: {config: {title: x}}}", '"publish" is a graph'),
    Wrong("ops: {clean: {config: {rows: 3}}}", "takes no config"),
    Wrong("ops: {load: 3}", "is not a dict; it looks like {config: 3}"),
    # tags, variables
    Wrong("tags: {password: x}", "named like a secret"),
    Wrong("tags: [team]", "is not a dict"),
    Wrong("execution: {config: {max_concurrent: '${WORKRES}'}}", "the environment variable WORKRES is not set"),
    Wrong("ops: {load: {config: {api_key: {env: API_KEY}}}}", "the environment variable API_KEY is not set"),
    Wrong("ops: {load: {config: {api_key: '${}'}}}", "names no environment variable"),
    Wrong("execution: {config: {max_concurrent: '${WORD}'}}", "*** (environment variable WORD) is not a whole number"),
    # YAML
    Wrong("tags: {nightly: on}", "on means true in YAML 1.1"),
    Wrong("execution: {config: {max_concurrent: 010}}", "010 is a number to the base 8"),
    Wrong(
        "execution: {config: {max_concurrent: 1_000}}", "1_000 is a number in YAML 1.1 and text in YAML 1.2; write 1000"
    ),
    Wrong("tags: {at: 12:30:00}", "is a number to the base 60"),
    Wrong("execution: {config: {stop_grace_s: 1e1}}", "1e1 is text in YAML 1.1"),
    Wrong("tags: {team: !!python/name:os.system x}", "is not read; leave it out"),
    Wrong("execution: [config", "is not YAML"),
    Wrong("execution:\n\tconfig: {}", "is not YAML"),
    Wrong("execution: {config: {max_concurrent: ${WORKERS}}}", "write it in quotes"),
    Wrong("tags: {a: &a [*a]}", "stands inside of what it means"),
    Wrong(MANY_ALIASES, "stand for more than 10000 values"),
    Wrong("[1, 2]", "a run config looks like"),
]


def printed(wrong: Wrong) -> list[str]:
    """What is said of a wrong run config; the file is called ``run.yaml``."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict("os.environ", {"WORD": "seven", "WORKERS": "4"}, clear=True),
    ):
        run_config: Any = wrong.written
        if isinstance(run_config, str):
            path = Path(folder) / "run.yaml"
            path.write_text(run_config)
            run_config = LayeredConfig(read_files([path]))
        try:
            daily.resolve(run_config)
        except ConfigError as error:
            return [problem.replace(f"{folder}/", "") for problem in error.problems]
    return []


def rows() -> list[list[str]]:
    """A row for each: what was written, and what it prints."""
    found = []
    for wrong in WRONG:
        text = wrong.written if isinstance(wrong.written, str) else repr(wrong.written)
        written = SHOWN.get(text, text).replace("\n", " ⏎ ").replace("\t", "⇥")
        lines = [line for problem in printed(wrong) for line in problem.splitlines()]
        found.append([f"`{written}`", "<br>".join(_code(line) for line in lines)])
    return found


def _code(line: str) -> str:
    """A line as code, its margin kept."""
    margin = len(line) - len(line.lstrip(" "))
    return "&nbsp;" * margin + f"`{line.lstrip(' ')}`"
