"""The YAML of docs/configuration.md fits the job of that page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from executor import config_from_files
from executor.config.instance_file import read_instance_settings

TEXT = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
JOB = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[0]
FILES = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", FILES, ids=lambda text: text.split("\n")[0])
def test_a_file_of_the_page_is_right(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if text.startswith(("concurrency:", "storage:")):
        (tmp_path / "executor.yaml").write_text(text)
        settings = read_instance_settings(tmp_path)
        assert settings.pools.limits or settings.storage.memory_limit == 4 << 30
        return
    monkeypatch.setenv("SHOP_API_KEY", "k")
    monkeypatch.delenv("REGION", raising=False)
    scope: dict[str, Any] = {"__name__": "page"}
    exec(compile(JOB, "page", "exec", dont_inherit=True), scope)
    path = tmp_path / "run.yaml"
    path.write_text(text)
    resolved = scope["daily"].resolve(config_from_files(path))
    assert resolved.settings.max_concurrent == 2
    assert resolved.configs["load"] == {"rows": 1000, "api_key": "k"}
    assert resolved.configs["report"] == {"title": "The whole shop"}


def test_the_page_has_a_file_of_each_kind() -> None:
    assert [text.split(":")[0] for text in FILES] == ["execution", "concurrency", "storage"]
