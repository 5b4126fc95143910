"""What a step can ask while it runs: ``OpExecutionContext``, and how a unit test gets one.

A context is made once per attempt, so it is a plain object with slots that computes nothing until it is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.authoring.names import AssetKey

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping


class OpExecutionContext:
    """What a running op knows of its attempt: ``log``, ``run_id``, ``step_key``, ``attempt``, tags, ``is_cancelled``.

    An op gets one when its first parameter is called ``context`` (or ``_context``, ``_``) or is annotated as one.
    """

    __slots__ = (
        "_cancelled",
        "_op_config",  # set only where there is config: most steps have none, and each costs
        "attempt",
        "fencing_token",
        "job_name",
        "log",
        "op_name",
        "run_id",
        "run_tags",
        "step_key",
        "tags",
    )

    log: logging.Logger  #: goes to the log of the step
    run_id: str
    job_name: str
    step_key: str
    op_name: str
    attempt: int  #: 1 for the first
    tags: Mapping[str, str]  #: of the step
    run_tags: Mapping[str, str]
    #: Larger than that of anybody who held these slots before, for writes that a late one must lose; 0: it uses no pool
    fencing_token: int

    def __init__(
        self,
        *,
        run_id: str,
        job_name: str,
        step_key: str,
        op_name: str,
        attempt: int,
        tags: Mapping[str, str],
        run_tags: Mapping[str, str],
        log: logging.Logger,
        cancelled: Callable[[], bool],
        fencing_token: int = 0,
    ) -> None:
        self.run_id = run_id
        self.job_name = job_name
        self.step_key = step_key
        self.op_name = op_name
        self.attempt = attempt
        self.tags = tags
        self.run_tags = run_tags
        self.log = log
        self._cancelled = cancelled
        self.fencing_token = fencing_token

    @property
    def is_cancelled(self) -> bool:
        """Whether the step was asked to stop; a long loop that looks at it can end in good order."""
        return self._cancelled()

    def set_op_config(self, config: Callable[[], Any]) -> None:
        """Let ``op_config`` be what ``config`` gives; for whoever makes the context."""
        self._op_config = config

    @property
    def has_op_config(self) -> bool:
        """Whether the step has config."""
        return hasattr(self, "_op_config")

    @property
    def op_config(self) -> Any:
        """The config of the step as a dict, with the defaults of its schema; empty for an op that takes none."""
        return self._op_config() if self.has_op_config else {}

    @property
    def retry_number(self) -> int:
        """How many attempts of this step came before: 0 for the first."""
        return self.attempt - 1

    @property
    def op_execution_context(self) -> OpExecutionContext:
        """This context."""
        return self

    def has_tag(self, key: str) -> bool:
        """Whether the run has a tag of that key."""
        return key in self.run_tags

    def get_tag(self, key: str) -> str | None:
        """The run's tag of that key, or None without one."""
        return self.run_tags.get(key)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of step {self.step_key!r}, attempt {self.attempt}, run {self.run_id}>"


class AssetExecutionContext(OpExecutionContext):
    """What a running asset knows of its attempt: all that an op knows, and ``asset_key``."""

    __slots__ = ()

    @property
    def asset_key(self) -> AssetKey:
        """The key of the asset, ``raw/orders``, as text with a ``path``; in a multi-asset, its name."""
        return AssetKey(self.step_key)


def build_op_context(
    *,
    run_id: str = "test",
    job_name: str = "test",
    step_key: str = "test",
    op_name: str | None = None,
    attempt: int = 1,
    tags: Mapping[str, str] | None = None,
    run_tags: Mapping[str, str] | None = None,
    log: logging.Logger | None = None,
    cancelled: Callable[[], bool] | None = None,
    fencing_token: int = 0,
    op_config: Any = None,
) -> OpExecutionContext:
    """A context for calling an op in a unit test; it logs to the logger ``executor.test`` and is never cancelled."""
    context = OpExecutionContext(
        run_id=run_id,
        job_name=job_name,
        step_key=step_key,
        op_name=op_name or step_key,
        attempt=attempt,
        tags=dict(tags or {}),
        run_tags=dict(run_tags or {}),
        log=log or _test_log(),
        cancelled=cancelled or _never,
        fencing_token=fencing_token,
    )
    if op_config is not None:
        context.set_op_config(lambda: op_config)
    return context


def build_asset_context(
    *,
    asset_key: str = "test",
    run_id: str = "test",
    job_name: str = "test",
    attempt: int = 1,
    tags: Mapping[str, str] | None = None,
    run_tags: Mapping[str, str] | None = None,
    log: logging.Logger | None = None,
    cancelled: Callable[[], bool] | None = None,
    fencing_token: int = 0,
    op_config: Any = None,
) -> AssetExecutionContext:
    """A context for calling an asset in a unit test; it logs to the logger ``executor.test`` and is never cancelled."""
    context = AssetExecutionContext(
        run_id=run_id,
        job_name=job_name,
        step_key=asset_key,
        op_name=asset_key,
        attempt=attempt,
        tags=dict(tags or {}),
        run_tags=dict(run_tags or {}),
        log=log or _test_log(),
        cancelled=cancelled or _never,
        fencing_token=fencing_token,
    )
    if op_config is not None:
        context.set_op_config(lambda: op_config)
    return context


def _test_log() -> logging.Logger:
    import logging  # only here: a worker brings its own logger

    return logging.getLogger("executor.test")


def _never() -> bool:
    return False
