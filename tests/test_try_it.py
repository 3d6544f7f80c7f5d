"""The first command of both READMEs makes a service, and serves it."""

from pathlib import Path

import pytest

from scripts import try_it


@pytest.fixture
def served(template: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], Path]]:
    """What would be served: the commands, and where they would run."""
    commands: list[tuple[list[str], Path]] = []

    def note(command: list[str], folder: Path) -> int:
        commands.append((command, folder))
        return 0

    monkeypatch.setattr(try_it, "TEMPLATE", template)
    monkeypatch.setattr(try_it, "_run", note)
    return commands


def test_it_takes_answers_and_shows_the_command_that_does_the_same(
    tmp_path: Path,
    template: Path,
    served: list[tuple[list[str], Path]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "service"
    answers = ["--data", "project_name=The Bills = ours", "--data", "ci=none"]
    monkeypatch.setattr("sys.argv", ["try_it", str(folder), *answers])
    assert try_it.main() == 0
    assert (folder / "README.md").read_text("utf-8").startswith("# The Bills = ours\n")
    assert not (folder / ".github").exists()
    assert capsys.readouterr().out.splitlines() == [
        "try: copier copy --defaults --data 'project_name=The Bills = ours' --data ci=none "
        f"{template} {folder}",
        f"try: cd {folder} && uv run poe dev",
    ]
    assert [(command[1:4], where) for command, where in served] == [
        (["run", "poe", "dev"], folder),
    ]


def test_what_is_no_answer_is_refused_before_anything_is_written(
    tmp_path: Path,
    served: list[tuple[list[str], Path]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "service"
    monkeypatch.setattr("sys.argv", ["try_it", str(folder), "--data", "es"])
    with pytest.raises(SystemExit):
        try_it.main()
    assert "--data takes QUESTION=ANSWER, such as language=es" in capsys.readouterr().err
    assert not folder.exists()
    assert served == []
