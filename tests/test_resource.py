"""`uv run poe resource`: what it writes is the code of the user resource, and it works at once."""

import ast
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.answers import DEFAULTS, Answers
from tests.projects import Project, output

USER = [
    *("user", "username:str:unique", "email:email:unique", "full_name:str?"),
    *("--table", "user_account"),
]
# Each of them may refer to those above it.
RESOURCES = """
customer name:str email:email:unique notes:text?
category name:str:unique parent:category?
invoice number:str:unique amount:decimal due:date customer:customer sent_by:user? paid_at:datetime?
invoice-line invoice:invoice position:int:index category:category? price:decimal:index taxed:bool
order customer:customer order:new,done placed:datetime:index weight:float
flag is_on:bool colour:red,green:optional:index
profile user:user:unique
transfer sender:customer receiver:customer amount:decimal reference:uuid:unique
draft title:str? body:text? day:date? at:datetime? count:int? ratio:float? done:bool? mail:email?
application client:customer:optional:unique profile:profile paid:bool:index born:date:index key:uuid
"""


def code_and_imports(path: Path) -> tuple[list[str], set[str]]:
    """Return the lines of a file without its imports, and what it imports."""
    text = path.read_text("utf-8")
    lines = text.splitlines()
    imported: set[str] = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            imported |= {f"{module}.{alias.name}" for alias in node.names}
            for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                lines[number - 1] = ""
    return [line for line in lines if line], imported


@pytest.fixture(scope="module")
def written(make_project: Callable[[Answers], Project]) -> Path:
    """A project whose user resource the command has written anew."""
    project = make_project(DEFAULTS)
    folder = project.folder
    for path in ("app/api/v1/user", "tests/api/v1/user"):
        shutil.rmtree(folder / path)
    (folder / "app/database/model/user.py").unlink()
    listing = folder / "app/api/v1/router.py"
    listing.write_text('"""None."""\n\nfrom fastapi import APIRouter\n\nrouter = APIRouter()\n')
    done = project.tool("python", "-m", "template_tools.generator", *USER, "--no-migration")
    assert done.returncode == 0, output(done)
    return folder


@pytest.mark.parametrize(
    "path",
    [
        "app/database/model/user.py",
        "app/api/v1/user/schema.py",
        "app/api/v1/user/service.py",
        "app/api/v1/user/router.py",
        "tests/api/v1/user/test_router.py",
    ],
)
def test_every_line_that_it_writes_stands_in_the_user_resource_in_the_same_order(
    written: Path, project: Project, path: str
) -> None:
    """The user resource only has more: who the caller is, and rows for those who are new."""
    lines, imported = code_and_imports(written / path)
    shipped, shipped_imports = code_and_imports(project.folder / path)
    assert len(lines) > 5
    rest = iter(shipped)
    # `in` reads on from where it has found the line before.
    assert [line for line in lines if line not in rest] == []
    assert imported <= shipped_imports


# Each of them once made tests fail that had a table, a type or a fixture of the same name.
NAMES = (
    *("note", "contract", "probe", "problem", "health", "item", "token", "test", "entrance"),
    *("answer", "resource", "body"),
)


@pytest.mark.takes_minutes
def test_many_resources_whatever_they_are_called_pass_the_checks_and_their_tests(
    make_project: Callable[[Answers], Project],
) -> None:
    project = make_project(DEFAULTS)
    resources = [line.split() for line in RESOURCES.strip().splitlines()]
    columns = ("title:str:unique", "text:text?", "kind:one,two:index")
    for words in [*resources, *((name, *columns) for name in NAMES)]:
        done = project.poe("resource", *words)
        assert done.returncode == 0, output(done)
    migrations = [*(project.folder / "migrations/versions").glob("*.py")]
    assert len(migrations) == 1 + len(resources) + len(NAMES)

    # A change that no migration knows of would get into the next resource's.
    model = project.folder / "app/database/model/flag.py"
    text = model.read_text("utf-8")
    model.write_text(f"{text}    is_red: bool | None = None\n", "utf-8")
    done = project.poe("resource", "label", "text:str")
    assert done.returncode == 1
    assert "Write a migration for that first" in output(done)
    assert [*project.folder.rglob("*label*.py")] == []
    model.write_text(text, "utf-8")

    for task in ("check", "test"):
        done = project.poe(task)
        assert done.returncode == 0, output(done)
