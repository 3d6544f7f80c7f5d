"""What the tools read from ``.env``, and who else may."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from template_tools.configuration import configured


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    """A file such as the one that is rendered."""
    file = tmp_path / ".env"
    file.write_text("CANARY_SETTING='canary'\n")
    return file


@pytest.mark.parametrize(
    ("before", "after"),
    [(0o644, 0o600), (0o664, 0o600), (0o604, 0o600), (0o600, 0o600), (0o640, 0o640)],
)
def test_other_users_cannot_read_it_once_a_tool_has(
    env_file: Path, capsys: pytest.CaptureFixture[str], before: int, after: int
) -> None:
    env_file.chmod(before)

    for _ in range(2):
        assert configured("CANARY_SETTING", env_file.parent) == "canary"

    assert env_file.stat().st_mode & 0o777 == after
    said = capsys.readouterr().err
    assert said.count("only you can read it now") == (before != after)
    assert "canary" not in said


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can be another user")
def test_who_may_not_change_it_is_told_who_reads_it() -> None:
    """It belongs to root here, and the tool runs as somebody else."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, ".env")
        file.write_text("CANARY_SETTING='canary'\n")
        file.chmod(0o644)
        Path(folder).chmod(0o755)
        code = (
            "import dotenv, os, pathlib; from template_tools.configuration import configured; "
            f"os.setuid(65534); print(configured('CANARY_SETTING', pathlib.Path({folder!r})))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, encoding="utf-8"
        )
    assert done.stdout == "canary\n"
    assert "chmod 600 .env" in done.stderr


def test_without_the_file_nothing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert configured("NOWHERE", tmp_path) is None
    assert capsys.readouterr().err == ""
