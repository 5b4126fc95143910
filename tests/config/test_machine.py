"""The default number of workers: affinity, cgroup quotas and one environment variable."""

import os
from pathlib import Path

import pytest

from executor.config.machine import default_max_concurrent, usable_cpus, worker_count
from executor.config.settings import ExecutorSettings
from executor.errors import ConfigError


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


def machine(root: Path, files: dict[str, str]) -> str:
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return str(root)


@pytest.mark.usefixtures("eight_cpus")
class TestUsableCpus:
    def test_without_a_quota_it_is_the_affinity(self, tmp_path: Path) -> None:
        assert usable_cpus(str(tmp_path)) == 8

    def test_a_quota_of_cgroup_2_cuts_it(self, tmp_path: Path) -> None:
        root = machine(tmp_path, {"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "300000 100000\n"})
        assert usable_cpus(root) == 3

    def test_the_smallest_quota_of_the_groups_around_counts(self, tmp_path: Path) -> None:
        root = machine(
            tmp_path,
            {
                "proc/self/cgroup": "0::/slice/job\n",
                "sys/fs/cgroup/slice/job/cpu.max": "max 100000\n",
                "sys/fs/cgroup/slice/cpu.max": "200000 100000\n",
            },
        )
        assert usable_cpus(root) == 2

    def test_part_of_a_cpu_counts_as_one(self, tmp_path: Path) -> None:
        root = machine(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"})
        assert usable_cpus(root) == 2
        (tmp_path / "sys/fs/cgroup/cpu.max").write_text("10000 100000\n")
        assert usable_cpus(root) == 1

    def test_a_path_of_the_host_that_is_not_there_falls_back_to_the_top(self, tmp_path: Path) -> None:
        files = {"proc/self/cgroup": "0::/docker/abc/../x\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}
        assert usable_cpus(machine(tmp_path, files)) == 4

    def test_a_quota_of_cgroup_1_cuts_it(self, tmp_path: Path) -> None:
        files = {
            "proc/self/cgroup": "12:memory:/job\n4:cpu,cpuacct:/job\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
        }
        assert usable_cpus(machine(tmp_path, files)) == 2

    @pytest.mark.parametrize("quota", ["-1", "max", "", "0"])
    def test_no_quota_is_no_cut(self, tmp_path: Path, quota: str) -> None:
        files = {
            "proc/self/cgroup": "0::/job\n4:cpu:/job\n",
            "sys/fs/cgroup/job/cpu.max": f"{quota} 100000\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": f"{quota}\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
        }
        assert usable_cpus(machine(tmp_path, files)) == 8

    def test_a_quota_above_the_affinity_gives_no_cpus_more(self, tmp_path: Path) -> None:
        files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "6400000 100000\n"}
        assert usable_cpus(machine(tmp_path, files)) == 8


def test_this_machine_has_at_least_one_cpu() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("text", ["", "0", "  "])
def test_the_variable_unset_or_zero_means_the_cpus(text: str) -> None:
    assert default_max_concurrent({"EXECUTOR_MAX_CONCURRENT": text}) == usable_cpus()


def test_the_variable_sets_the_default() -> None:
    assert default_max_concurrent({"EXECUTOR_MAX_CONCURRENT": " 12 "}) == 12


@pytest.mark.parametrize("text", ["four", "-1", "2.5", "²", "4194305", "9" * 5000])
def test_a_wrong_variable_is_an_error_that_names_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"EXECUTOR_MAX_CONCURRENT: .* is not a whole number"):
        default_max_concurrent({"EXECUTOR_MAX_CONCURRENT": text})


def test_no_more_steps_run_at_once_than_the_machine_has_processes() -> None:
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    assert worker_count(ExecutorSettings(max_concurrent=4_194_304)) == most


def test_the_settings_come_before_the_machine() -> None:
    environ = {"EXECUTOR_MAX_CONCURRENT": "7"}
    assert worker_count(ExecutorSettings(max_concurrent=3), environ) == 3
    assert worker_count(ExecutorSettings(), environ) == 7
    assert worker_count(ExecutorSettings(in_process=True, max_concurrent=3), environ) == 1
