"""The options that say how a job is run, and the run config that they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from executor.config.layers import LayeredConfig, Path

#: What the command ends with; 4 is reserved for runs that are not admitted.
OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 3

EXIT_CODES = """\b
Exit codes:
  0  every step succeeded, or was skipped by rule
  1  a step failed, or the run could not be carried out
  2  the command, the configuration or the job is wrong; nothing ran
  3  the run was interrupted or cancelled
  4  the run was not admitted (reserved)
"""


class TagLimitType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """``KEY:N``, or with ``value`` also ``KEY=VALUE:N``, as an entry of ``tag_concurrency_limits``."""

    def __init__(self, *, per_value: bool) -> None:
        self.per_value = per_value
        self.name = "KEY:N" if per_value else "KEY[=VALUE]:N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, object]:
        """The entry that the text stands for."""
        if isinstance(value, dict):
            return value
        what, colon, number = str(value).rpartition(":")
        if not colon or not number.strip().isdecimal():
            self.fail(f"{value!r} does not end with a colon and a whole number: {self.name}", param, ctx)
        key, equals, tag_value = what.partition("=")
        if not key:
            self.fail(f"{value!r} names no tag: {self.name}", param, ctx)
        entry: dict[str, object] = {"key": key, "limit": int(number)}
        if self.per_value:
            if equals:
                self.fail(
                    f"{value!r}: each value of the tag counts by itself, so none is given: {self.name}", param, ctx
                )
            entry["value"] = {"applyLimitPerUniqueValue": True}
        elif equals:
            entry["value"] = tag_value
        return entry


class TagType(click.ParamType):  # type: ignore[type-arg]  # as above
    """``KEY=VALUE``, as a pair."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """The pair that the text stands for."""
        if isinstance(value, tuple):
            return value
        key, equals, tag_value = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key, tag_value


class StepsPerWorkerType(click.ParamType):  # type: ignore[type-arg]  # as above
    """A whole number, or ``unlimited``."""

    name = "N|unlimited"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number, or the word."""
        text = str(value)
        if text == "unlimited":
            return text
        if not text.isdecimal() or int(text) < 1:
            self.fail(f"{value!r} is neither a whole number above 0 nor 'unlimited'", param, ctx)
        return int(text)


#: What a run is configured with.
SETTINGS_OPTIONS: Sequence[Callable[[Callable[..., Any]], Callable[..., Any]]] = (
    click.option(
        "-c",
        "--config",
        "config_files",
        multiple=True,
        metavar="FILE",
        help="A YAML file with run config. May be repeated: a later one wins key by key, and options win over files.",
    ),
    click.option(
        "--max-concurrent", type=click.IntRange(min=0), metavar="N", help="Steps at once; 0: as many as CPUs."
    ),
    click.option(
        "--tag-limit",
        "tag_limits",
        multiple=True,
        type=TagLimitType(per_value=False),
        help="At most N steps at once with that tag (and value). May be repeated.",
    ),
    click.option(
        "--per-value-limit",
        "per_value_limits",
        multiple=True,
        type=TagLimitType(per_value=True),
        help="At most N steps at once for each value of that tag. May be repeated.",
    ),
    click.option("--tag", "tags", multiple=True, type=TagType(), help="A tag of the run. May be repeated."),
    click.option(
        "--in-process", is_flag=True, help="Run the steps one after another in this process, as for a debugger."
    ),
    click.option(
        "--pdb",
        is_flag=True,
        help="Enter the debugger where a step fails; the steps run one after another in this process.",
    ),
    click.option(
        "--steps-per-worker",
        type=StepsPerWorkerType(),
        help="Attempts before a worker process is replaced; 1 by default. More is faster and isolates less.",
    ),
    click.option(
        "--start-method",
        type=click.Choice(["auto", "fork", "forkserver", "spawn"]),
        help="How worker processes come to be; 'auto' by default.",
    ),
)

OPTIONS: Sequence[Callable[[Callable[..., Any]], Callable[..., Any]]] = (
    *SETTINGS_OPTIONS,
    click.option(
        "--select",
        "selection",
        multiple=True,
        metavar="NAMES",
        help="Run only these: name, *name (with all above), +name (with those directly above), name*, name+. "
        "May be repeated, or several with commas.",
    ),
    click.option("--dry-run", is_flag=True, help="Show what would run in which order under these limits; run nothing."),
    click.option(
        "--json", "as_json", is_flag=True, help="Print the result as one JSON object on stdout, lines on stderr."
    ),
    click.option(
        "--events",
        "events_file",
        metavar="FILE",
        help="Also write each event as a line of JSON into this file; - is stdout (lines for people go to stderr).",
    ),
    click.option(
        "--output",
        type=click.Choice(["failed", "all", "none"]),
        default="failed",
        show_default=True,
        help="Whose output to show: the last lines of failed steps, all of every step, or none.",
    ),
    click.option(
        "--progress",
        type=click.Choice(["live", "plain", "none"]),
        help="While it goes on: a live view, a line for each event, or nothing. Live on a terminal, else plain.",
    ),
    click.option("--quiet", "-q", is_flag=True, help="Only say what failed."),
)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of ``executor run``."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command those of the options that say what a run is configured with."""
    for option in reversed(SETTINGS_OPTIONS):
        command = option(command)
    return command


def layered_config(
    config_files: Sequence[str],
    tags: Sequence[tuple[str, str]] = (),
    *,
    earlier: LayeredConfig | None = None,
    **options: Any,
) -> LayeredConfig | None:
    """The run config of the files and, stronger, of the options; None where nothing was given.

    ``earlier`` is that of the run from which this one goes on, and weaker than both.

    What is wrong with a file is told when the config is used, with all other mistakes.

    Raises:
        click.UsageError: two options that exclude each other.
    """
    from executor.config.layers import Layer, LayeredConfig

    layers: tuple[Layer, ...] = earlier.layers if earlier is not None else ()
    if config_files:
        from executor.config.config_files import read_files

        layers = (*layers, *read_files(config_files))
    config = run_config(**options)
    if tags:
        config["tags"] = dict(tags)
    if config:
        layers = (*layers, Layer(config, "command line", words=_words(config)))
    return LayeredConfig(layers) if layers else None


#: The option that sets each setting.
WORDS = {
    "max_concurrent": "--max-concurrent",
    "tag_concurrency_limits": "--tag-limit, --per-value-limit",
    "steps_per_worker": "--steps-per-worker",
    "start_method": "--start-method",
    "in_process": "--in-process",
}


def _words(config: Mapping[str, Any]) -> dict[Path, str]:
    settings = config.get("execution", {}).get("config", {})
    return {
        **{("execution", "config", name): WORDS[name] for name in settings},
        **{("tags", name): "--tag" for name in config.get("tags", {})},
    }


def run_config(
    *,
    max_concurrent: int | None,
    tag_limits: Sequence[dict[str, object]],
    per_value_limits: Sequence[dict[str, object]],
    in_process: bool,
    pdb: bool,
    steps_per_worker: int | str | None,
    start_method: str | None,
) -> dict[str, object]:
    """The run config that the options stand for; empty where none was given.

    Raises:
        click.UsageError: two options that exclude each other.
    """
    config: dict[str, object] = {}
    if max_concurrent is not None:
        config["max_concurrent"] = max_concurrent
    if tag_limits or per_value_limits:
        config["tag_concurrency_limits"] = [*tag_limits, *per_value_limits]
    if steps_per_worker is not None:
        config["steps_per_worker"] = steps_per_worker
    if start_method is not None:
        config["start_method"] = start_method
    if in_process or pdb:
        if config:
            limits = [("--tag-limit", tag_limits), ("--per-value-limit", per_value_limits)]
            words = [f"--{name.replace('_', '-')}" for name in config if name != "tag_concurrency_limits"]
            given = ", ".join([*words, *(option for option, limits_given in limits if limits_given)])
            option = "--in-process" if in_process else "--pdb"
            raise click.UsageError(f"{option} runs steps one after another in this process; leave out {given}")
        config["in_process"] = {"pdb": True} if pdb else {}
    return {"execution": {"config": config}} if config else {}
