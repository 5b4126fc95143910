"""``Instance``: the home folder for programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import executor
from executor import ConfigError, Instance, UnmetRequirement


def test_the_instance_is_in_the_home_folder_that_runs_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECUTOR_HOME", str(tmp_path / "home"))
    instance = Instance.get()
    assert instance.home == tmp_path / "home"
    assert instance.root_directory == str(tmp_path / "home")
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert not instance.is_ephemeral
    with instance:
        pass
    assert instance.home.is_dir()
    assert repr(instance) == f"<Instance {instance.home}>"


def test_a_home_can_be_named(tmp_path: Path) -> None:
    assert Instance.get(tmp_path / "other").home == tmp_path / "other"


def test_a_home_that_others_may_write_into_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(UnmetRequirement, match="others may write into the home folder"):
        Instance.get(tmp_path)


def test_an_ephemeral_instance_is_gone_after_its_block_and_has_pools() -> None:
    with Instance.ephemeral() as instance:
        home = instance.home
        instance.ledger.set_limit("database", 1)
        assert instance.ledger.limit("database").limit == 1
        assert instance.is_ephemeral
        assert repr(instance).endswith("(ephemeral)>")
    assert not home.exists()
    instance.close()


def test_two_ephemeral_instances_share_nothing() -> None:
    with Instance.ephemeral() as one, Instance.ephemeral() as other:
        one.ledger.set_limit("database", 1)
        assert other.ledger.pools() == []


def test_an_ephemeral_instance_is_gone_with_its_process_and_not_with_a_child_of_it() -> None:
    program = (
        "import os, sys\n"
        "from executor import Instance\n"
        "instance = Instance.ephemeral()\n"
        "if os.fork() == 0:\n"
        "    sys.exit(0)\n"
        "os.wait()\n"
        "print(instance.home, instance.home.is_dir())\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ)
    home, there = done.stdout.split()
    assert there == "True"
    assert not Path(home).exists()


def test_a_job_runs_in_an_ephemeral_instance() -> None:
    @executor.op
    def one() -> int:
        return 1

    @executor.job
    def small() -> None:
        one()

    with Instance.ephemeral() as instance:
        result = small.execute_in_process(home=instance.home)
        assert result.success
        assert result.folder.home == instance.home


def test_the_settings_are_those_of_the_file(tmp_path: Path) -> None:
    instance = Instance.get(tmp_path)
    assert instance.settings.file is None
    assert instance.global_op_concurrency_default_limit is None
    (tmp_path / "executor.yaml").write_text(
        "concurrency:\n  pools:\n    default_limit: 4\n    op_granularity_run_buffer: 2\n"
    )
    assert instance.global_op_concurrency_default_limit == 4
    config = instance.get_concurrency_config()
    assert (config.pool_config.default_pool_limit, config.pool_config.pool_granularity) == (4, "op")
    assert config.pool_config.op_granularity_run_buffer == 2
    assert config.run_queue_config is None
    (tmp_path / "executor.yaml").write_text("concurrency: 4\n")
    with pytest.raises(ConfigError, match=r"executor\.yaml:1:14: "):
        instance.get_concurrency_config()
