"""What stands here in English and in Spanish says the same, and is changed in both."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import Template

from scripts import translations
from scripts.questions import BEGIN, END, tables
from scripts.translations import PAGES, RECORD, Section, files, in_both, pairs, sections, to_look_at
from tests.projects import REPOSITORY, TEMPLATE
from tests.test_copier_yml import QUESTIONS

LINK = re.compile(r"\]\(([^)#\s]*)(?:#[^)\s]*)?\)")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A question, its default and choices, and what it decides.
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", re.MULTILINE)
CATALOGUE = TEMPLATE / "template_tools/spanish.json"
# What only a Spanish reader types, and whose folder is shown.
SPANISH_ANSWER = " --data language=es"
HOMES = ("/home/ana/", "/home/you/")
# Each page, and its translation the other way round.
COUNTERPARTS = PAGES | {spanish: english for english, spanish in PAGES.items()}
# Files that hold both languages.
BOTH = [it for it in files(REPOSITORY) if it not in PAGES]
JINJA = [it for it in BOTH if it != translations.CATALOGUE]


def text(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


def test_no_section_was_changed_in_one_language_only() -> None:
    found = [*to_look_at(REPOSITORY, json.loads(text(RECORD.as_posix())))]
    assert found == [], (
        "write it in both languages, read them side by side, and run: "
        "uv run poe translations --accept"
    )


def both(page: str) -> Iterator[tuple[str, Section, Section]]:
    """Yield the sections of a page, each with the Spanish one, and its name for a failure."""
    for english, spanish in pairs(REPOSITORY, page):
        # The rows of the table of questions have a test of their own.
        if english.level:
            yield f"{page}, {english.name!r}", english, spanish


@pytest.mark.parametrize("page", PAGES)
def test_each_section_has_the_same_blocks_of_code(page: str) -> None:
    for place, english, spanish in both(page):
        blocks, translated = FENCE.findall(english.text), FENCE.findall(spanish.text)
        assert [it[0] for it in translated] == [it[0] for it in blocks], place
        for (language, block), (_, other) in zip(blocks, translated, strict=True):
            # What a command prints is translated by whoever made the command.
            if language == "console":
                assert commands(other) == commands(block), place
            elif language != "text":
                assert other == block, place


def commands(block: str) -> list[str]:
    """Return the commands of a block, without the answer of a Spanish reader."""
    lines = block.replace(SPANISH_ANSWER, "").splitlines()
    return [line for line in lines if line.startswith("$ ")] if block.startswith("$ ") else lines


def test_what_the_tools_print_on_the_spanish_pages_is_what_their_catalogue_has() -> None:
    """Not every block is run by the test of the tutorial, and that one takes long."""
    catalogue = json.loads(CATALOGUE.read_text("utf-8"))
    translated = 0
    for english, spanish in printed_lines():
        if english != spanish:
            messages = [it for it in catalogue if pattern(it).fullmatch(said(english))]
            translations = [pattern(catalogue[it]) for it in messages]
            assert any(it.fullmatch(said(spanish)) for it in translations), spanish
            translated += 1
    assert translated > 10


def printed_lines() -> Iterator[tuple[str, str]]:
    """Yield each line that a block shows as printed, in English and in Spanish."""
    for page in PAGES:
        for place, english, spanish in both(page):
            for (language, block), (_, other) in zip(
                FENCE.findall(english.text), FENCE.findall(spanish.text), strict=True
            ):
                if language in {"console", "text"}:
                    other = other.replace(SPANISH_ANSWER, "").replace(*HOMES)
                    lines, translated = block.splitlines(), other.splitlines()
                    assert len(lines) == len(translated), place
                    yield from zip(lines, translated, strict=True)


def said(line: str) -> str:
    """Return the words of a line, without who says it and the address at its end."""
    return re.sub(r"^\w+: |  +\S+$", "", line.strip())


def pattern(message: str) -> re.Pattern[str]:
    """Return what matches a message, whatever its placeholders stand for."""
    return re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(message)))


@pytest.mark.parametrize("page", PAGES)
def test_each_section_leads_to_the_same_pages_and_to_spanish_ones_where_they_exist(
    page: str,
) -> None:
    for place, english, spanish in both(page):
        expected = [COUNTERPARTS.get(it, it) for it in targets(english.text, page)]
        assert sorted(targets(spanish.text, PAGES[page])) == sorted(expected), place


def targets(section: str, page: str) -> list[str]:
    """Return what a section links to: paths in the repository, and addresses."""
    found = LINK.findall(FENCE.sub("", section))
    return [it if ":" in it else path_of(it, page) for it in found]


def path_of(target: str, page: str) -> str:
    return (REPOSITORY / page).parent.joinpath(target).resolve().relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("page", PAGES)
def test_commands_settings_and_paths_in_the_text_are_the_same(page: str) -> None:
    for place, english, spanish in both(page):
        assert named(spanish.text) >= named(english.text), place


def named(section: str) -> set[str]:
    prose = FENCE.sub("", section).replace(SPANISH_ANSWER, "")
    return {*re.findall(r"`([^`]+)`", prose)}


def test_the_spanish_table_has_the_questions_of_copier_yml() -> None:
    """In their order, with the defaults and choices that they have after the answer `es`."""
    table = text("README.es.md").partition(BEGIN)[2].partition(END)[0]
    asked = ROW.findall(tables(text("copier.yml"))["README.md"])
    translated = ROW.findall(table)
    assert len(translated) == table.count("\n| `")
    assert [it[:2] for it in translated] == [(name, in_spanish(name, it)) for name, it, _ in asked]
    for (name, _, english), (_, _, spanish) in zip(asked, translated, strict=True):
        assert named(spanish) == named(english), name


def in_spanish(name: str, answers: str) -> str:
    """Return the default and the choices of a question as the Spanish table shows them."""
    default = str(QUESTIONS[name]["default"])
    if re.search(r"\blanguage\b", default):
        english, spanish = (Template(default).render(language=it) for it in ("en", "es"))
        answers = answers.replace(f"`{english}`", f"`{spanish}`")
    answers = answers.replace("` or `", "` o `").replace("empty", "vacío")
    return re.sub(r"^from ", "a partir de ", answers)


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what is in both languages, which has been read as it is."""
    for name in (*COUNTERPARTS, *BOTH):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, tmp_path / name)
    (tmp_path / RECORD).parent.mkdir()
    monkeypatch.setattr(translations, "TEMPLATE", tmp_path)
    run(monkeypatch, "--accept")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr("sys.argv", ["translations", *options])
    return translations.main()


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text("utf-8")
    assert content.count(old) >= 1
    path.write_text(content.replace(old, new, 1), "utf-8")


ENGLISH, SPANISH = "docs/tutorial.md", "docs/es/tutorial.md"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({ENGLISH: ("Git, curl", "Curl, git")}, "has changed, and docs/es/tutorial.md has not"),
        (
            {SPANISH: ("Git, curl", "Curl, git")},
            "has not changed, and docs/es/tutorial.md has ('Qué necesitas')",
        ),
        (
            {ENGLISH: ("Git, curl", "Curl, git"), SPANISH: ("Git, curl", "Curl, git")},
            "has changed, and so has docs/es/tutorial.md",
        ),
    ],
    ids=["English", "Spanish", "both"],
)
def test_a_section_is_listed_until_somebody_has_read_it(
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, tuple[str, str]],
    said: str,
) -> None:
    assert run(monkeypatch) == 0
    assert capsys.readouterr().out == "to look at: 0\n"
    for page, (old, new) in changed.items():
        edit(copy / page, old, new)
    assert run(monkeypatch) == 1
    listed = f"docs/tutorial.md, 'What you need': {said}"
    assert capsys.readouterr().out == f"{listed}\nto look at: 1\n"
    assert run(monkeypatch, "--accept") == 0
    assert run(monkeypatch) == 0


def test_a_renamed_section_is_listed(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(copy / ENGLISH, "## What you need", "## Before you begin")
    assert run(monkeypatch) == 1
    assert capsys.readouterr().out.splitlines() == [
        "docs/tutorial.md, 'Before you begin': is new, or begins differently",
        "docs/tutorial.md, 'What you need': is recorded, and no longer there",
        "to look at: 2",
    ]


def test_a_section_in_one_language_only_is_said_and_cannot_be_accepted(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(copy / ENGLISH, "## What you need", "## Before you begin\n\nRest.\n\n## What you need")
    before = (copy / RECORD).read_text("utf-8")
    assert run(monkeypatch) == 1
    assert "docs/es/tutorial.md have different headings" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="different headings"):
        run(monkeypatch, "--accept")
    assert (copy / RECORD).read_text("utf-8") == before


TASKS = "template/template_tools/tasks.toml.jinja"


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("copier.yml", "The Python that it runs", "The Python it runs", "differently"),
        (
            "copier.yml",
            "Usa de 2 a 40",
            "Escribe de 2 a 40",
            "has not changed, and its Spanish has",
        ),
        ("copier.yml", "'Nothing'", "'Nothing at all'", "differently"),
        ("copier.yml", "compare with what was committed", "compare with it", "Spanish has not"),
        (
            "README.es.md",
            "La versión de Python de",
            "El Python de",
            "README.es.md has ('the row of",
        ),
        ("README.md", "The Python of", "The version of", "has changed, and README.es.md has not"),
        ("template/.env.example.jinja", "Where callers reach", "Where all reach", "differently"),
        ("template/.env.jinja", "La contraseña va", "Tu contraseña va", "its Spanish has"),
        ("template/README.md.jinja", "the history of the schema", "its past", "Spanish has not"),
        ("template/README.md.jinja", "la historia del esquema", "su pasado", "its Spanish has"),
        (translations.CATALOGUE, "Copiar", "Copia", "has not changed, and its Spanish has"),
        (TASKS, "what changed", "what has changed", "differently"),
        (TASKS, "qué ha cambiado", "qué cambió", "has not changed, and its Spanish has"),
    ],
)
def test_so_is_what_stands_in_one_file_in_both_languages(
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
    old: str,
    new: str,
    said: str,
) -> None:
    edit(copy / file, old, new)
    assert run(monkeypatch) == 1
    assert said in capsys.readouterr().out
    assert run(monkeypatch, "--accept") == 0
    assert run(monkeypatch) == 0


def test_each_text_of_a_file_that_depends_on_the_language_is_compared() -> None:
    assert {"copier.yml", TASKS, "template/README.md.jinja"} <= {*JINJA}
    for file in JINJA:
        content = text(file)
        # What asks for the language in another way would not be found.
        conditions = re.findall(r"\blanguage\s*(?:[!=]=|in\b)\s*(\S+?)(?=\s|\)|-?%)", content)
        assert {*conditions} <= {"'es'", '"es"'}, file
        macros = content.count("{% macro text(")
        calls = content.count("text(") - macros
        assert len([*in_both(content)]) == len(conditions) - macros + calls, file
    others = [it for it in TEMPLATE.rglob("*") if it.is_file() and it.suffix != ".jinja"]
    named = [
        it for it in others if re.search(rb"#: if .*language|{% if .*language", it.read_bytes())
    ]
    assert named == []


def test_a_page_is_taken_apart_at_its_headings_and_at_no_comment_of_a_shell() -> None:
    page = "# Page\n\nOne.\n\n## A\n\n```sh\n# no heading\n```\n\n### B\n\n## C\n\n### B\n"
    assert [(it.name, it.level) for it in sections(page)] == [
        ("Page", 1),
        ("A", 2),
        ("A / B", 3),
        ("C", 2),
        ("C / B", 3),
    ]
    assert "# no heading" in sections(page)[1].text
