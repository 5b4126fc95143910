"""Run a DAG of Python functions in worker processes, under every limit that Dagster's documentation describes.

What a program imports. Light: whatever runs a job is loaded when a job is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.authoring.assets import AssetsDefinition, asset
from executor.authoring.collection import Definitions, LazyDefinitions, definitions
from executor.authoring.composed_assets import graph_asset, multi_asset
from executor.authoring.compute import BadOutput
from executor.authoring.context import AssetExecutionContext, OpExecutionContext, build_asset_context, build_op_context
from executor.authoring.executors import ExecutorDefinition, in_process_executor, multiprocess_executor
from executor.authoring.graphs import GraphDefinition, graph
from executor.authoring.jobs import AssetJobDefinition, JobDefinition, define_asset_job, job
from executor.authoring.names import AssetKey
from executor.authoring.ops import OpDefinition, op
from executor.authoring.ports import AssetIn, AssetOut, GraphOut, In, Nothing, Out, Output
from executor.authoring.retry import Backoff, Failure, Jitter, RetryPolicy, RetryRequested
from executor.authoring.run_config import RunConfig
from executor.authoring.validation import validate_run_config
from executor.errors import (
    ConfigError,
    DefinitionError,
    ExecutorError,
    RunFailed,
    RunInterrupted,
    UnmetRequirement,
    UsageError,
)

if TYPE_CHECKING:
    from executor.api import execute_job, materialize
    from executor.authoring.config_class import Config, PermissiveConfig
    from executor.config.config_files import config_from_files
    from executor.config.kinds import Field
    from executor.errors import WorkersUnavailable
    from executor.instance.instance import Instance
    from executor.outputs.values import ValueLost
    from executor.runs.history import HistoryLost
    from executor.runs.records import DagsterRun, DagsterRunStatus, RunRecord, RunsFilter
    from executor.runs.reexecution import ReexecutionOptions
    from executor.runs.result import RunResult
    from executor.workers.explain import StepInterrupted

__version__ = "0.1.0"

#: Names that are found when they are first used, and the module of each.
_LATER = {
    "Config": "executor.authoring.config_class",
    "PermissiveConfig": "executor.authoring.config_class",
    "config_from_files": "executor.config.config_files",
    "Field": "executor.config.kinds",
    "execute_job": "executor.api",
    "materialize": "executor.api",
    "Instance": "executor.instance.instance",
    "RunResult": "executor.runs.result",
    "DagsterRun": "executor.runs.records",
    "DagsterRunStatus": "executor.runs.records",
    "ReexecutionOptions": "executor.runs.reexecution",
    "RunRecord": "executor.runs.records",
    "RunsFilter": "executor.runs.records",
    "StepInterrupted": "executor.workers.explain",
    "HistoryLost": "executor.runs.history",
    "ValueLost": "executor.outputs.values",
    "WorkersUnavailable": "executor.errors",
}

__all__ = [
    "AssetExecutionContext",
    "AssetIn",
    "AssetJobDefinition",
    "AssetKey",
    "AssetOut",
    "AssetsDefinition",
    "Backoff",
    "BadOutput",
    "Config",
    "ConfigError",
    "DagsterRun",
    "DagsterRunStatus",
    "DefinitionError",
    "Definitions",
    "ExecutorDefinition",
    "ExecutorError",
    "Failure",
    "Field",
    "GraphDefinition",
    "GraphOut",
    "HistoryLost",
    "In",
    "Instance",
    "Jitter",
    "JobDefinition",
    "LazyDefinitions",
    "Nothing",
    "OpDefinition",
    "OpExecutionContext",
    "Out",
    "Output",
    "PermissiveConfig",
    "ReexecutionOptions",
    "RetryPolicy",
    "RetryRequested",
    "RunConfig",
    "RunFailed",
    "RunInterrupted",
    "RunRecord",
    "RunResult",
    "RunsFilter",
    "StepInterrupted",
    "UnmetRequirement",
    "UsageError",
    "ValueLost",
    "WorkersUnavailable",
    "asset",
    "build_asset_context",
    "build_op_context",
    "config_from_files",
    "define_asset_job",
    "definitions",
    "execute_job",
    "graph",
    "graph_asset",
    "in_process_executor",
    "job",
    "materialize",
    "multi_asset",
    "multiprocess_executor",
    "op",
    "validate_run_config",
]


def __getattr__(name: str) -> Any:
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module 'executor' has no attribute {name!r}")
    import importlib

    found = globals()[name] = getattr(importlib.import_module(module), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
