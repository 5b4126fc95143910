"""Run a DAG of Python functions in worker processes, under every limit that Dagster's documentation describes.

What a program imports. Light: each name is loaded when it is first asked for, and what runs a job when one is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from executor.api import execute_job, materialize
    from executor.authoring.assets import AssetsDefinition, asset
    from executor.authoring.collection import Definitions, LazyDefinitions, definitions
    from executor.authoring.composed_assets import graph_asset, multi_asset
    from executor.authoring.compute import BadOutput
    from executor.authoring.config_class import Config, PermissiveConfig
    from executor.authoring.context import (
        AssetExecutionContext,
        OpExecutionContext,
        build_asset_context,
        build_op_context,
    )
    from executor.authoring.executors import ExecutorDefinition, in_process_executor, multiprocess_executor
    from executor.authoring.graphs import GraphDefinition, graph
    from executor.authoring.jobs import AssetJobDefinition, JobDefinition, define_asset_job, job
    from executor.authoring.names import AssetKey
    from executor.authoring.ops import OpDefinition, op
    from executor.authoring.ports import AssetIn, AssetOut, GraphOut, In, Nothing, Out, Output
    from executor.authoring.retry import Backoff, Failure, Jitter, RetryPolicy, RetryRequested
    from executor.authoring.run_config import RunConfig
    from executor.authoring.validation import validate_run_config
    from executor.config.config_files import config_from_files
    from executor.config.kinds import Field
    from executor.errors import (
        ConfigError,
        DefinitionError,
        ExecutorError,
        RunFailed,
        RunInterrupted,
        UnmetRequirement,
        UsageError,
        WorkersUnavailable,
    )
    from executor.instance.instance import Instance
    from executor.outputs.values import ValueLost
    from executor.runs.history import HistoryLost
    from executor.runs.records import DagsterRun, DagsterRunStatus, RunRecord, RunsFilter
    from executor.runs.reexecution import ReexecutionOptions
    from executor.runs.result import RunResult
    from executor.workers.explain import StepInterrupted

__version__ = "0.1.0"

#: The module of each name.
_LATER = {
    "execute_job": "executor.api",
    "materialize": "executor.api",
    "AssetsDefinition": "executor.authoring.assets",
    "asset": "executor.authoring.assets",
    "Definitions": "executor.authoring.collection",
    "LazyDefinitions": "executor.authoring.collection",
    "definitions": "executor.authoring.collection",
    "graph_asset": "executor.authoring.composed_assets",
    "multi_asset": "executor.authoring.composed_assets",
    "BadOutput": "executor.authoring.compute",
    "Config": "executor.authoring.config_class",
    "PermissiveConfig": "executor.authoring.config_class",
    "AssetExecutionContext": "executor.authoring.context",
    "OpExecutionContext": "executor.authoring.context",
    "build_asset_context": "executor.authoring.context",
    "build_op_context": "executor.authoring.context",
    "ExecutorDefinition": "executor.authoring.executors",
    "in_process_executor": "executor.authoring.executors",
    "multiprocess_executor": "executor.authoring.executors",
    "GraphDefinition": "executor.authoring.graphs",
    "graph": "executor.authoring.graphs",
    "AssetJobDefinition": "executor.authoring.jobs",
    "JobDefinition": "executor.authoring.jobs",
    "define_asset_job": "executor.authoring.jobs",
    "job": "executor.authoring.jobs",
    "AssetKey": "executor.authoring.names",
    "OpDefinition": "executor.authoring.ops",
    "op": "executor.authoring.ops",
    "AssetIn": "executor.authoring.ports",
    "AssetOut": "executor.authoring.ports",
    "GraphOut": "executor.authoring.ports",
    "In": "executor.authoring.ports",
    "Nothing": "executor.authoring.ports",
    "Out": "executor.authoring.ports",
    "Output": "executor.authoring.ports",
    "Backoff": "executor.authoring.retry",
    "Failure": "executor.authoring.retry",
    "Jitter": "executor.authoring.retry",
    "RetryPolicy": "executor.authoring.retry",
    "RetryRequested": "executor.authoring.retry",
    "RunConfig": "executor.authoring.run_config",
    "validate_run_config": "executor.authoring.validation",
    "config_from_files": "executor.config.config_files",
    "Field": "executor.config.kinds",
    "ConfigError": "executor.errors",
    "DefinitionError": "executor.errors",
    "ExecutorError": "executor.errors",
    "RunFailed": "executor.errors",
    "RunInterrupted": "executor.errors",
    "UnmetRequirement": "executor.errors",
    "UsageError": "executor.errors",
    "WorkersUnavailable": "executor.errors",
    "Instance": "executor.instance.instance",
    "ValueLost": "executor.outputs.values",
    "HistoryLost": "executor.runs.history",
    "DagsterRun": "executor.runs.records",
    "DagsterRunStatus": "executor.runs.records",
    "RunRecord": "executor.runs.records",
    "RunsFilter": "executor.runs.records",
    "ReexecutionOptions": "executor.runs.reexecution",
    "RunResult": "executor.runs.result",
    "StepInterrupted": "executor.workers.explain",
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
