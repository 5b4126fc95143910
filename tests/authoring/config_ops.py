"""Ops with config of every kind, in a module that workers can import."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, SecretStr, field_validator

from executor import (
    AssetOut,
    Config,
    Definitions,
    Field,
    PermissiveConfig,
    asset,
    define_asset_job,
    graph,
    job,
    multi_asset,
    op,
)


class Source(Config):
    url: str
    password: SecretStr = SecretStr("none")


class LoadConfig(Config):
    rows: int
    mode: Literal["full", "delta"] = "full"
    source: Source | None = None
    folder: Path = Path()

    @field_validator("rows")
    @classmethod
    def _not_13(cls, rows: int) -> int:
        if rows == 13:
            raise ValueError("13 brings bad luck")
        return rows


class Size(enum.Enum):
    SMALL = "small"
    BIG = "big"


@dataclass
class Layer:
    width: int
    name: str = "dense"


@dataclass(frozen=True)
class TrainConfig:
    rate: float
    layers: list[Layer] = field(default_factory=list)
    sizes: dict[str, Size] = field(default_factory=dict)
    seed: int | None = None
    shape: tuple[int, ...] = (1, 2)


class Plain(BaseModel):
    x: int = 1


@op
def load(config: LoadConfig) -> dict:
    secret = config.source.password.get_secret_value() if config.source else None
    return {"rows": config.rows, "mode": config.mode, "secret": secret, "folder": config.folder.as_posix()}


@op
def train(context, rows, config: TrainConfig):
    assert isinstance(config, TrainConfig)
    return (config, context.op_config)


@op
def named_otherwise(settings: LoadConfig, rows=3):
    return settings.rows + rows


@op
def with_default(config: Plain = Plain(x=7)) -> int:  # noqa: B008 -- it cannot be changed by a call
    return config.x


@op(config_schema={"title": str, "pages": Field(int, default_value=2), "note": Field(str, is_required=False)})
def report(context):
    return context.op_config


@op(config_schema=int)
def number(context):
    return context.op_config


@op(config_schema=TrainConfig)
def by_schema(config):
    return config.rate


class Open(PermissiveConfig):
    known: int = 1


@op
def permissive(config: Open):
    return config.model_dump()


@op
def none_at_all(rows=1):
    return rows


@job
def everything():
    train(load())


@graph
def inner(rows):
    return train.alias("fit")(rows)


@job
def nested():
    inner(load.alias("read")())


@job
def load_only():
    load()


@job
def several():
    with_default()
    permissive()
    none_at_all()


@job
def schemas():
    report()
    number()
    by_schema()


@asset(key_prefix=["raw"])
def orders(config: Plain) -> int:
    return config.x


@asset
def total(orders: int, config: Plain) -> int:
    return orders * config.x


@multi_asset(outs={"left": AssetOut(), "right": AssetOut()})
def pair(config: Plain):
    return config.x, -config.x


defs = Definitions(assets=[orders, pair], jobs=[define_asset_job("assets_job")])
