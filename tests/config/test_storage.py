"""``storage`` in ``executor.yaml``, sizes as people write them, and the memory of this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from executor.config.instance_file import read_instance_settings
from executor.config.machine import usable_memory
from executor.config.sizes import parse_size
from executor.config.storage import StorageSettings
from executor.errors import ConfigError


def read(home: Path, text: str) -> StorageSettings:
    (home / "executor.yaml").write_text(text)
    return read_instance_settings(home).storage


def problems(home: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        read(home, text)
    return [problem.replace(f"{home}/executor.yaml:", "") for problem in raised.value.problems]


def test_without_the_section_values_go_where_there_is_room(tmp_path: Path) -> None:
    assert read(tmp_path, "concurrency: {}") == StorageSettings()
    assert read(tmp_path, "storage:") == StorageSettings()
    assert StorageSettings().values == "auto"


def test_all_that_can_be_set(tmp_path: Path) -> None:
    text = """
storage:
  values: memory
  memory_folder: /run/user/1000
  memory_limit: 2.5 GiB
  keep: all
"""
    assert read(tmp_path, text) == StorageSettings(
        values="memory", memory_folder="/run/user/1000", memory_limit=5 << 29, keep="all"
    )


def test_what_dagster_has_in_this_section_is_left_alone(tmp_path: Path) -> None:
    text = "storage: {sqlite: {base_dir: /x}, postgres: {postgres_db: {}}, values: disk, keep: }"
    assert read(tmp_path, text) == StorageSettings(values="disk")


def test_every_mistake_has_its_place(tmp_path: Path) -> None:
    text = """\
storage:
  valeus: disk
  values: dsik
  memory_folder: shm
  memory_limit: 3 apples
  keep: [all]
"""
    assert problems(tmp_path, text) == [
        "2:3: unknown key 'valeus' under storage; did you mean 'values'?",
        "3:11: 'dsik' is not one of auto, disk, memory; did you mean 'disk'?",
        "4:18: 'shm' is not a whole path; write one such as /dev/shm",
        "5:17: '3 apples' is not a size; write bytes as a number, or text such as 500 MB or 2 GiB",
        "6:9: a sequence is not one of results, all",
    ]
    assert problems(tmp_path, "storage: disk") == ["1:10: 'disk' stands where a mapping, such as values: disk, should"]


@pytest.mark.parametrize(
    ("text", "size"),
    [(0, 0), (1500, 1500), ("1500", 1500), ("3 B", 3), ("2k", 2048), ("5 MB", 5_000_000), (" 1.5GiB", 3 << 29)],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", [-1, True, 1.5, "", "-1", "1e9", "GiB", "2 GiBs", None, [], "9" * 5000])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size; write bytes as a number"):
        parse_size(text)


def cgroups(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "1000000\n"}, 1_000_000),
        (
            {
                "proc/self/cgroup": "4:cpu,memory:/a\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "3000000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            3_000_000,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None),
        ({}, None),
    ],
)
def test_memory_is_cut_by_cgroups(files: dict[str, str], expected: int | None, tmp_path: Path) -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert usable_memory(cgroups(tmp_path, files)) == (expected or machine)
