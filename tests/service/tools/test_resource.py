"""What `poe resource` writes, and what it refuses. The code that it writes has tests of its own."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import registry
from sqlmodel import SQLModel

from app.database.base import TableBase
from template_tools.generator import ResourceError, router_file
from template_tools.generator import __main__ as command
from template_tools.generator import plan as planning
from template_tools.generator.fields import _unknown_type
from template_tools.generator.models import Model, Models, read_models, row_maker
from template_tools.generator.names import MAX_LENGTH, article, pluralized, read_names
from tests.service.database.notes import Note

LISTING = "app/api/v1/router.py"
ROUTER = '''"""The resources of version 1 of the API: one line for each."""

from fastapi import APIRouter

from app.api.v1.clothes.router import router as jacket

router = APIRouter()
router.include_router(jacket, prefix="/jacket", tags=["jacket"])
'''
RESOURCES = ["category", "project", "user"]
RUFF = "line-length = 100\n[lint]\nselect = ['A', 'E', 'F', 'I', 'N', 'W']\n"
EVERY_TYPE = (
    "a:str b:text c:email d:int e:float f:decimal g:bool h:date i:datetime j:uuid k:note l:thing? "
    "order:yes,no:index"
)

type Run = Callable[..., int]


class ArchiveBase(TableBase, registry=registry()):
    """Where a registry is named, SQLModel maps only the classes below."""


class Filed(ArchiveBase, table=True):
    """What is in a schema."""

    __table_args__ = {"schema": "archive"}  # noqa: RUF012


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project that lists one resource, and whose only table is of notes."""
    (tmp_path / "app/api/v1").mkdir(parents=True)
    (tmp_path / LISTING).write_text(ROUTER, "utf-8")
    (tmp_path / "ruff.toml").write_text(RUFF, "utf-8")
    tables = frozenset({"note", "note_tag", "alembic_version"})
    monkeypatch.setattr(planning, "read_models", lambda: Models((Model(Note),), tables))
    return tmp_path


@pytest.fixture
def run(root: Path) -> Run:
    """Run the command in that folder, without a migration."""
    return lambda line, *more: command.main([*line.split(), *more, "--no-migration"], root)


def files(root: Path) -> dict[str, str]:
    """Return the text of each file of Python."""
    return {
        path.relative_to(root).as_posix(): path.read_text("utf-8") for path in root.rglob("*.py")
    }


def ruff(root: Path, *arguments: str) -> str:
    """Return what ruff has to say about the folder."""
    known = 'lint.isort.known-first-party = ["app", "template_tools", "tests"]'
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--quiet", "--config", known, "."],
        cwd=root,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return done.stdout + done.stderr


def test_a_resource_is_a_table_bodies_a_service_routes_tests_and_a_line(
    run: Run, root: Path
) -> None:
    assert run("order-line number:str:unique amount:decimal due:date note:note?") == 0

    written = files(root)
    assert sorted(written) == [
        "app/api/v1/order_line/__init__.py",
        "app/api/v1/order_line/router.py",
        "app/api/v1/order_line/schema.py",
        "app/api/v1/order_line/service.py",
        LISTING,
        "app/database/model/order_line.py",
        "tests/api/v1/order_line/__init__.py",
        "tests/api/v1/order_line/test_router.py",
    ]
    assert (
        'note_id: UUID | None = Field(default=None, foreign_key="note.id")'
        in (written["app/database/model/order_line.py"])
    )
    assert written[LISTING] == (
        ROUTER.replace(
            "\nrouter =",
            "from app.api.v1.order_line.router import router as order_line\n\nrouter =",
        )
        + 'router.include_router(order_line, prefix="/order-line", tags=["order-line"])\n'
    )


@pytest.mark.parametrize("name", [f"{'x' * 13}-{'y' * (MAX_LENGTH - 14)}", "order", "unit"])
def test_what_is_written_is_formatted_and_has_nothing_that_it_does_not_use(
    run: Run, root: Path, name: str
) -> None:
    line = EVERY_TYPE.replace("thing", name) + f" {'z' * MAX_LENGTH}:note:unique"
    assert run(f"{name} {line}") == 0
    assert ruff(root, "check") == ruff(root, "format", "--check") == ""


def test_a_plural_may_be_any_word_that_no_function_is_called_by(run: Run, root: Path) -> None:
    assert run("datum a:str --plural data") == 0
    assert ruff(root, "check") == ""


@pytest.mark.parametrize("fields", ["done:bool?", "note:note", EVERY_TYPE])
def test_any_combination_of_fields_makes_python(run: Run, root: Path, fields: str) -> None:
    assert run(f"thing {fields}") == 0
    for text in files(root).values():
        ast.parse(text)
        assert "$" not in text
        assert "%if" not in text


def test_a_dry_run_shows_what_git_could_apply_and_writes_nothing(
    run: Run, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("invoice number:str", "--dry-run") == 0
    shown = capsys.readouterr()
    assert files(root) == {LISTING: ROUTER}
    assert "Nothing was written." in shown.err

    subprocess.run(["git", "apply"], cwd=root, input=shown.out, check=True, encoding="utf-8")
    applied = files(root)
    for path in applied:
        (root / path).unlink()
    (root / LISTING).write_text(ROUTER, "utf-8")
    assert run("invoice number:str") == 0
    assert files(root) == applied


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("Invoice a:str", '"Invoice" cannot be a name'),
        ("in-voice- a:str", '"in-voice-" cannot be a name'),
        ("../invoice a:str", "cannot be a name"),
        ("class a:str", '"class" means something in Python'),
        ("list a:str", '"list" means something in Python'),
        ("session a:str", "choose another name, such as session-record"),
        ("page a:str", "choose another name, such as page-record"),
        ("row a:str", "choose another name, such as row-record"),
        ("line a:str --plural rows", 'The plural "rows" has a meaning of its own'),
        ("invoices a:str", "in the singular"),
        (f"{'i' * 40} a:str", "too long"),
        ("sheep a:str --plural sheep", "choose another with --plural"),
        ("invoice a:str --table user", "choose another one with --table"),
        ("invoice a:str --table pg_invoice", "choose another one with --table"),
        ("invoice a:str --table note", "has a table note already"),
        ("invoice a:str --table note_tag", "There is a table note_tag already"),
        ("alembic-version a:str", "There is a table alembic_version already"),
        ("note a:str", "has a class Note already"),
        ("jacket a:str", "is taken in app/api/v1/router.py, line 8"),
        ("", "a name, and at least one field"),
        ("invoice", "a name, and at least one field"),
        ("invoice number", "write its name and its type"),
        ("invoice number:", "write its name and its type"),
        ("invoice :str", "cannot be the name of a field"),
        ("invoice number:str:uniq", '"uniq" is not one of unique, index and optional'),
        ("invoice number:str?:optional", "says optional twice"),
        ("invoice number:string", "Did you mean str?"),
        ("invoice note:nota", "Did you mean note?"),
        ("invoice customer:customer", "Resources: note."),
        ("invoice Number:str", "cannot be the name of a field"),
        ("invoice a:str a:int", 'two fields called "a"'),
        ("invoice note:note note_id:uuid", 'two fields called "note_id"'),
        ("invoice class:str", '"class": the name has a meaning'),
        ("invoice id:uuid", '"id": the name has a meaning'),
        ("invoice version:int", '"version": the name has a meaning'),
        ("invoice created_at:datetime", '"created_at": the name has a meaning'),
        ("invoice metadata:str", '"metadata": the name has a meaning'),
        ("invoice registry:str", '"registry": the name has a meaning'),
        ("invoice model_config:str", '"model_config": the name has a meaning'),
        ("invoice model_dump_path:str", '"model_dump_path": the name has a meaning'),
        ("invoice cls:str", '"cls": the name has a meaning'),
        ("invoice json:str", '"json": the name has a meaning'),
        ("invoice date:date", '"date": the name has a meaning'),
        ("invoice limit:int", '"limit": the name has a meaning'),
        ("invoice xmin:int", '"xmin": the name has a meaning'),
        ("invoice paid:bool:unique", "cannot be unique"),
        ("invoice status:draft,sent:unique", "cannot be unique"),
        ("invoice status:draft,draft", "write different words"),
        ("invoice status:draft,", "write different words"),
        ("invoice status:Draft,Sent", "write different words"),
        ("invoice body:text:unique", "cannot be unique"),
        ("invoice weight:float:index", "cannot be filtered by a float"),
        ("category parent:category", "write parent:category?"),
        ("category parent:category?", "give it one more field"),
    ],
)
def test_what_cannot_be_made_is_a_sentence_and_nothing_is_written(
    run: Run, root: Path, capsys: pytest.CaptureFixture[str], line: str, sentence: str
) -> None:
    assert run(line) == 1
    assert sentence in capsys.readouterr().err
    assert files(root) == {LISTING: ROUTER}


@pytest.mark.parametrize(
    "path",
    [
        "app/database/model/invoice.py",
        "app/api/v1/invoice/note.py",
        "tests/api/v1/invoice/test_router.py",
    ],
)
def test_nothing_is_overwritten(
    run: Run, root: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("MINE = 1\n")
    before = files(root)
    assert run("invoice number:str") == 1
    assert "exists already" in capsys.readouterr().err
    assert files(root) == before


def test_what_python_leaves_behind_is_not_in_the_way(run: Run, root: Path) -> None:
    (root / "app/api/v1/invoice/__pycache__").mkdir(parents=True)
    assert run("invoice number:str") == 0


def test_a_file_that_cannot_be_written_takes_the_others_with_it(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(root: Path, text: str) -> None:
        raise PermissionError(13, "Permission denied", LISTING)

    monkeypatch.setattr(router_file, "replace", refuse)
    assert run("invoice number:str") == 1
    assert "Permission denied" in capsys.readouterr().err
    assert [path.name for path in root.rglob("*invoice*")] == []
    assert not (root / "tests").exists()


def test_whoever_interrupts_it_finds_nothing_half_written(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(root: Path, text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(router_file, "replace", interrupt)
    assert run("invoice number:str") == 130
    assert [path.name for path in root.rglob("*invoice*")] == []


@pytest.mark.parametrize(
    "text",
    [
        ROUTER.replace("router = APIRouter()\n", "router = APIRouter()\n\n# Ours:\n"),
        ROUTER.replace("APIRouter()", 'APIRouter(\n    prefix=""\n)'),
        ROUTER.replace("router = ", "router: APIRouter = "),
        ROUTER.replace("\n", "\r\n"),
        ROUTER.rstrip("\n"),
        ROUTER + "\n\ndef ours() -> None:\n    router.include_router(jacket)\n",
        ROUTER.replace("router = ", "router  =  "),
        ROUTER.replace("from fastapi", "import zlib\nimport   ast\nfrom fastapi"),
        '"""None yet."""\n\nfrom fastapi import APIRouter\n\nrouter = APIRouter()\n',
    ],
)
def test_two_lines_are_added_and_the_team_s_own_stay(root: Path, text: str) -> None:
    (root / LISTING).write_bytes(text.encode())
    before, after = router_file.with_resource(read_names("invoice", None, None), root)
    assert before == text
    compile(after, LISTING, "exec")
    assert ("\r\n" in after) == ("\r\n" in text)
    lines = [line for line in after.splitlines() if "invoice" not in line]
    assert [line for line in lines if line] == [line for line in text.splitlines() if line]
    assert len([line for line in after.splitlines() if "invoice" in line]) == 2


@pytest.mark.parametrize("text", ["", "routers = []\n", "from fastapi import APIRouter\n"])
def test_a_list_of_resources_that_it_does_not_understand_is_left_to_the_team(
    run: Run, root: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (root / LISTING).write_text(text)
    assert run("invoice number:str") == 1
    said = capsys.readouterr().err
    assert files(root) == {LISTING: text}

    by_hand = "".join(f"{line}\n" for line in said.splitlines()[-2:])
    assert by_hand.startswith("from app.api.v1.invoice.router import router as invoice\n")
    (root / LISTING).write_text(by_hand)
    assert run("invoice number:str") == 0
    assert (root / LISTING).read_text() == by_hand


def test_what_is_imported_further_below_stays_there(run: Run, root: Path) -> None:
    text = f"{ROUTER}\nfrom fastapi import (  # noqa: E402\n    Depends,\n)\n"
    (root / LISTING).write_text(text)
    assert run("invoice number:str") == 0
    lines = (root / LISTING).read_text().splitlines()
    used = next(number for number, line in enumerate(lines) if "include_router(invoice" in line)
    assert "from app.api.v1.invoice.router import router as invoice" in lines[:used]
    assert [line for line in lines if "invoice" not in line] == text.splitlines()


def test_a_line_is_what_python_takes_for_one(run: Run, root: Path) -> None:
    text = ROUTER.replace("of the API", "of the\f\f\u2028API").replace(
        '(jacket, prefix="/jacket", tags=["jacket"])', '(\n    jacket, prefix="/jacket"\n)'
    )
    (root / LISTING).write_text(text, "utf-8")
    assert run("invoice number:str") == 0
    assert (root / LISTING).read_text("utf-8").endswith('tags=["invoice"])\n')


def test_a_broken_list_of_resources_is_named(
    run: Run, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / LISTING).write_text("router = (\n")
    assert run("invoice number:str") == 1
    assert "app/api/v1/router.py is not valid Python" in capsys.readouterr().err


def test_a_table_whose_name_is_reserved_gets_the_plural(run: Run, root: Path) -> None:
    assert run("order number:int") == 0
    assert '__tablename__ = "orders"' in files(root)["app/database/model/order.py"]


def test_a_row_to_refer_to_has_what_its_table_wants() -> None:
    assert row_maker(Model(Note)) == 'Note(id=key, title=f"title {number}")'


def test_one_of_a_few_words_is_text_with_a_check(run: Run, root: Path) -> None:
    assert run("invoice status:draft,sent?") == 0
    written = files(root)
    model, schema = (
        written[path] for path in ("app/database/model/invoice.py", "app/api/v1/invoice/schema.py")
    )
    assert """CheckConstraint("status IN ('draft', 'sent')", name="status")""" in model
    assert "status: str | None = Field(default=None, max_length=255)" in model
    assert 'status: Literal["draft", "sent"] | None = None' in schema


def test_a_table_may_be_in_a_schema(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "read_models", lambda: Models((Model(Filed),)))
    assert run("invoice filed:filed") == 0
    assert 'foreign_key="archive.filed.id"' in files(root)["app/database/model/invoice.py"]


def test_tables_that_cannot_be_imported_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("template_tools.generator.models.PACKAGE", "app.database.nothing")
    with pytest.raises(ResourceError, match="app/database/nothing cannot be imported"):
        read_models()


def test_every_table_of_the_service_can_be_referred_to() -> None:
    models = read_models()
    for model in models.models:
        assert issubclass(model.cls, SQLModel)
        assert models.of_table(model.table) == model


@pytest.mark.parametrize(
    ("one", "many"),
    [("invoice", "invoices"), ("category", "categories"), ("day", "days"), ("box", "boxes")],
)
def test_a_plural_is_the_regular_one(one: str, many: str) -> None:
    assert pluralized(one) == many


@pytest.mark.parametrize(
    ("word", "expected"),
    [("invoice", "an"), ("user", "a"), ("unit", "a"), ("upload", "an"), ("hour", "an")],
)
def test_an_article_is_the_one_that_people_say(word: str, expected: str) -> None:
    assert article(word) == expected


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    examples = re.findall(r"uv run poe resource (\w+(?: \w+:[\w:?]+)+)", text)
    assert len(examples) == 3


@pytest.mark.parametrize(
    "kind",
    ["customer", "order", "product", "team", "address", "company", "interest", "item", "tenant"],
)
def test_what_is_no_misspelt_type_is_not_taken_for_one(kind: str) -> None:
    """A customer is not a misspelt user: the team has not written that resource yet."""
    assert "Did you mean" not in str(_unknown_type(kind, f"a:{kind}", RESOURCES))


@pytest.mark.parametrize(
    ("kind", "meant"),
    [
        *(("usr", "user"), ("users", "user"), ("projcet", "project"), ("categroy", "category")),
        *(("emial", "email"), ("datetme", "datetime"), ("string", "str"), ("integer", "int")),
        *(("boolean", "bool"), ("timestamp", "datetime"), ("varchar", "str"), ("txt", "text")),
    ],
)
def test_what_is_a_misspelt_type_is_guessed(kind: str, meant: str) -> None:
    assert f"Did you mean {meant}?" in str(_unknown_type(kind, f"a:{kind}", RESOURCES))
