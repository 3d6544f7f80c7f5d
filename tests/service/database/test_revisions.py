"""The history is read as Alembic reads it, without Alembic."""

from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from app.database.revisions import HistoryUnknown, read_history

HISTORIES = {
    "one": {"a": "None"},
    "a line": {"a": "None", "b": "'a'", "c": '"b"  # after "b"'},
    "two heads": {"a": "None", "b": "'a'", "c": "'a'"},
    "a merge": {"a": "None", "b": "'a'", "c": "'a'", "d": "(\n    'b',\n    'c',\n)"},
    "a merge as a list": {"a": "None", "b": "'a'", "c": "'a'", "d": "['b', 'c']"},
    "two beginnings": {"a": "None", "b": "None", "c": "'b'"},
}


def write(folder: Path, history: dict[str, str], *, rest: str = "") -> Path:
    versions = folder / "versions"
    versions.mkdir(parents=True)
    for revision, follows in history.items():
        (versions / f"{revision}.py").write_text(
            f'"""Revision ID: {revision}\n\nRevises: x"""\n\nrevision: str = "{revision}"\n'
            f"down_revision: str | None = {follows}\nbranch_labels = None\n{rest}\n"
            "def upgrade() -> None:\n    revision = 'no'\n"
        )
    return versions


@pytest.mark.parametrize("name", HISTORIES)
def test_the_heads_are_those_of_alembic(tmp_path: Path, name: str) -> None:
    versions = write(tmp_path, HISTORIES[name])
    (tmp_path / "env.py").touch()
    scripts = ScriptDirectory(str(tmp_path))
    history = read_history(versions)
    assert history.heads == {*scripts.get_heads()}
    assert history.revisions == {it.revision for it in scripts.walk_revisions()}


def test_a_revision_that_another_depends_on_is_no_head(tmp_path: Path) -> None:
    """Its row leaves alembic_version when the other one is applied."""
    versions = write(tmp_path, {"a": "None"})
    write(tmp_path / "other", {"b": "None"}, rest="depends_on = ('a',)")
    (tmp_path / "other/versions/b.py").rename(versions / "b.py")
    assert read_history(versions).heads == {"b"}


@pytest.mark.parametrize(
    ("name", "applied", "missing"),
    [
        ("a line", "", "c"),
        ("a line", "b", "c"),
        ("a line", "c", ""),
        ("a line", "z", ""),
        ("two heads", "b", "c"),
        ("two heads", "bc", ""),
        ("a merge", "bc", "d"),
        ("a merge", "d", ""),
        ("two beginnings", "c", "a"),
        ("two beginnings", "az", ""),
    ],
)
def test_what_a_database_lacks(tmp_path: Path, name: str, applied: str, missing: str) -> None:
    assert read_history(write(tmp_path, HISTORIES[name])).missing(applied) == {*missing}


BROKEN = {
    "a gap": "down_revision = 'nowhere'",
    "computed": "down_revision = 'a' + str(1)",
    "no history": "down_revision = 1",
    "nonsense": "down_revision = (",
}


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN)
def test_what_is_no_history_is_said_in_a_sentence(tmp_path: Path, line: str) -> None:
    versions = write(tmp_path, {"a": "None"})
    (versions / "b.py").write_text(f"revision = 'b'\n{line}\n")
    with pytest.raises(HistoryUnknown, match=r"b\.py|nowhere"):
        read_history(versions)
