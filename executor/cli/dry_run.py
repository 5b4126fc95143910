"""``--dry-run``: what would run in which order, how many at once, and which limit holds steps back. Runs nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from textwrap import wrap
from typing import TYPE_CHECKING

from executor.config.machine import worker_count
from executor.plan.compile import compile_job
from executor.runs.notices import limit_notices
from executor.runs.report import printable
from executor.scheduler.limits import Limits
from executor.scheduler.simulate import simulate

if TYPE_CHECKING:
    from executor.authoring.jobs import JobDefinition
    from executor.plan.plan import Plan
    from executor.scheduler.simulate import Simulation

LINE_WIDTH = 100


def dry_run_text(job: JobDefinition, run_config: object, selection: list[str] | None, *, as_json: bool = False) -> str:
    """How the job would run under these settings, if every step took the same time: as text, or as JSON.

    Raises:
        ConfigError: the run config has mistakes.
        UsageError: the selection names what is not there, or leaves out what a selected step reads.
    """
    resolved = job.resolve(run_config, part_of_job=selection is not None)
    settings = resolved.settings
    plan = compile_job(job, selection=selection)
    resolved.require(step.key for step in plan.steps)
    limits = Limits(max_concurrent=worker_count(settings), tags=settings.tag_concurrency_limits)
    # Nobody knows yet how long a step takes: each takes one round, which no timeout is to cut short.
    timeless = replace(plan, steps=tuple(replace(step, timeout_s=None) for step in plan.steps))
    simulation = simulate(timeless, limits)
    rounds = _rounds(simulation)
    notices = limit_notices(plan, limits)
    if as_json:
        record = {
            "job": plan.job_name,
            "steps": len(plan),
            "max_concurrent": limits.max_concurrent,
            "tag_limits": [{"limit": str(limit), "steps": limit.limit} for limit in limits.tags],
            "rounds": rounds,
            "width": simulation.width,
            "binds": simulation.binds,
            "notices": notices,
        }
        return json.dumps(record, indent=2)
    return "\n".join([*_head(plan, limits), *map(_notice_line, notices), *_order(rounds), _width(simulation, limits)])


def _rounds(simulation: Simulation) -> list[list[str]]:
    """The keys of the steps that start together, in the order in which they start."""
    rounds: dict[float, list[str]] = {}
    for interval in simulation.order:
        rounds.setdefault(interval.start_s, []).append(interval.key)
    return list(rounds.values())


def _head(plan: Plan, limits: Limits) -> list[str]:
    lines = [f"job {printable(plan.job_name)}: {_steps(len(plan))}; this is a dry run, nothing is executed"]
    lines += [f"  at most {limits.max_concurrent} at once: max_concurrent"]
    lines += [f"  at most {limit.limit} at once: {printable(str(limit))}" for limit in limits.tags]
    return lines


def _notice_line(notice: str) -> str:
    return f"notice: {printable(notice)}"


def _order(rounds: list[list[str]]) -> list[str]:
    lines = ["order, if every step took the same time:"]
    margin = len(str(len(rounds))) + 2
    for number, keys in enumerate(rounds, 1):
        text = wrap(
            ", ".join(map(printable, keys)), LINE_WIDTH - margin - 2, break_long_words=False, break_on_hyphens=False
        )
        lines.append(f"{number:>{margin}}  {text[0]}")
        lines += [f"{'':>{margin}}  {more}" for more in text[1:]]
    return lines


def _width(simulation: Simulation, limits: Limits) -> str:
    rounds = f"{simulation.makespan_s:.0f} round{'' if simulation.makespan_s == 1 else 's'}"
    width = f"width {simulation.width}: {rounds} for {_steps(len(simulation.order))}"
    binds = simulation.binds
    if binds is None:
        return f"{width}; no limit holds a step back, more than {simulation.width} at once would change nothing"
    waits = sorted(((cause, seconds) for cause, seconds in simulation.waits_s.items()), key=lambda wait: -wait[1])
    shares = ", ".join(f"{seconds:.0f} {printable(cause)}" for cause, seconds in waits)
    what = f"max_concurrent={limits.max_concurrent}" if binds == "max_concurrent" else printable(binds)
    return f"{width}; the limit that binds is {what} (rounds waited by all steps: {shares})"


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"
