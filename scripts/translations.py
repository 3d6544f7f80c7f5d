"""List the texts that may no longer say the same in English and in Spanish.

They are the sections of the pages of this repository that exist in both languages, what stands in
both in copier.yml and in the files of the template, and the messages of the tools.
tests/translations.json holds the hashes of each as they were when a person last read them side by
side. After that, `--accept` records what stands there now.
"""

import argparse
import hashlib
import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.questions import BEGIN, END, with_table

TEMPLATE = Path(__file__).resolve().parents[1]
RECORD = Path("tests", "translations.json")
# What the tools of a project say: the English sentence, and the Spanish one.
CATALOGUE = "template/template_tools/spanish.json"
# English pages, and where they stand in Spanish.
PAGES = {"README.md": "README.es.md", "docs/tutorial.md": "docs/es/tutorial.md"}
_HEADING = re.compile(r"(#{1,6}) (.+)")
_ROW = re.compile(r"^\| `(\w+)` \|.*$", re.MULTILINE)
# A tag of Jinja about a condition, as a line or in braces.
_TAG = re.compile(
    r"^\#: (if|elif|else|endif)\b(.*)\n"
    r"|\{%-? (if|elif|else|endif)\b([\s\S]*?)-?%\}",
    re.MULTILINE,
)
_IS_SPANISH = re.compile(r"""\s*language == ["']es["']\s*""")
_STRING = r"""(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')"""
_EITHER = re.compile(rf"""{_STRING} if language == ["']es["'] else {_STRING}""")
# The macro of a file whose texts are short.
_MACRO = re.compile(rf"\btext\({_STRING},\s*{_STRING}\)")

# The hashes of a text in both languages, with a space between them, by file and name.
type Recorded = Mapping[str, Mapping[str, str]]


class TranslationError(Exception):
    """Both languages have different headings, so that their sections cannot be compared."""


@dataclass(frozen=True)
class Section:
    """A heading, and the lines up to the next one.

    Attributes:
        name: The headings that lead to it, without the page's title: ``Deploy / Docker``.
        level: 1 for the page's title.
        text: The lines, with that of the heading.
    """

    name: str
    level: int
    text: str

    @property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the text's SHA-256."""
        return hashlib.sha256(self.text.strip().encode()).hexdigest()[:16]


def sections(page: str) -> list[Section]:
    """Take a page apart; the rows of its table of questions are not among the sections.

    A text that begins without a heading begins with a section that its first words name.
    """
    if BEGIN in page:
        page = with_table(page, "")
    found: list[tuple[int, list[str], list[str]]] = []
    in_fence = False
    for line in page.splitlines():
        if line.lstrip().startswith("```"):
            in_fence = not in_fence
        heading = None if in_fence else _HEADING.fullmatch(line)
        if heading is not None:
            level, path = len(heading[1]), []
            # The nearest section before it that stands higher leads to it.
            for above, way, _ in reversed(found):
                if 1 < above < level:
                    path = way
                    break
            found.append((level, [*path, heading[2]], [line]))
        elif found:
            found[-1][2].append(line)
        elif line.strip():
            found.append((0, [_first_words(page)], [line]))
    return [Section(" / ".join(path), level, "\n".join(lines)) for level, path, lines in found]


def _whole(text: str) -> Section:
    return Section(_first_words(text), 0, text)


def _first_words(text: str) -> str:
    words = " ".join(line.strip().removeprefix("# ") for line in text.splitlines())
    return textwrap.shorten(words, 60, placeholder=" ...")


def files(root: Path) -> Iterator[str]:
    """Yield the pages of which there are two, and then the files that hold both languages."""
    yield from (*PAGES, CATALOGUE)
    for file in (root / "copier.yml", *sorted((root / "template").rglob("*.jinja"))):
        if file.is_file() and any(True for _ in in_both(file.read_text("utf-8"))):
            yield file.relative_to(root).as_posix()


def pairs(root: Path, file: str) -> list[tuple[Section, Section]]:
    """Return the texts of a file in English, each with the Spanish one.

    Args:
        root: The repository.
        file: A path of ``files``.

    Raises:
        TranslationError: They have different headings.
    """
    text = (root / file).read_text("utf-8")
    if file not in PAGES:
        both = json.loads(text).items() if file == CATALOGUE else in_both(text)
        if ".md" in Path(file).suffixes:
            return [it for en, es in both for it in _by_heading(en, es, file, file)]
        return [*_told_apart((_whole(en), _whole(es)) for en, es in both)]
    translation = (root / PAGES[file]).read_text("utf-8")
    found = _by_heading(text, translation, file, PAGES[file])
    return found + _rows(text, translation)


def in_both(text: str) -> Iterator[tuple[str, str]]:
    """Yield what a file says in English, and in Spanish where ``language`` is ``es``."""
    opened: list[list[re.Match[str]]] = []
    for tag in _TAG.finditer(text):
        kind = tag[1] or tag[3]
        if kind == "if":
            opened.append([])
        opened[-1].append(tag)
        if kind == "endif":
            start, *between, end = opened.pop()
            if _IS_SPANISH.fullmatch(start[2] or start[4]):
                # Where there is no else, nothing is said in English.
                middle = between[-1] if between else end
                yield text[middle.end() : end.start()], text[start.end() : middle.start()]
    for spanish, spanish_, english, english_ in _EITHER.findall(text):
        yield english or english_, spanish or spanish_
    for english, english_, spanish, spanish_ in _MACRO.findall(text):
        yield english or english_, spanish or spanish_


def _by_heading(
    english: str, spanish: str, file: str, translation: str
) -> list[tuple[Section, Section]]:
    """Return the sections of both."""
    parts, other = sections(english), sections(spanish)
    if [it.level for it in parts] != [it.level for it in other]:
        counts = f"{len(parts)} and {len(other)}"
        raise TranslationError(
            f"{file} and {translation} have different headings ({counts}): write a section in both"
        )
    return [*zip(parts, other, strict=True)]


def _told_apart(both: Iterable[tuple[Section, Section]]) -> Iterator[tuple[Section, Section]]:
    """Yield the pairs with a number in the names of those that say the same in English."""
    seen = Counter[str]()
    for english, spanish in both:
        seen[english.name] += 1
        number = seen[english.name]
        name = english.name if number == 1 else f"{english.name} ({number})"
        yield replace(english, name=name), spanish


def _rows(page: str, translation: str) -> list[tuple[Section, Section]]:
    """Return the rows of the tables of questions, if the pages have them."""
    english, spanish = (_sections_of_rows(it) for it in (page, translation))
    return [(row, spanish[name]) for name, row in english.items() if name in spanish]


def _sections_of_rows(page: str) -> dict[str, Section]:
    table = page.partition(BEGIN)[2].partition(END)[0]
    return {it[1]: Section(f"the row of {it[1]}", 0, it[0]) for it in _ROW.finditer(table)}


def digests(root: Path) -> dict[str, dict[str, str]]:
    """Return what is to be recorded of the texts as they are."""
    return {
        file: {en.name: f"{en.digest} {es.digest}" for en, es in pairs(root, file)}
        for file in files(root)
    }


def to_look_at(root: Path, recorded: Recorded) -> Iterator[str]:
    """Yield a sentence for each text that has changed since both languages were read."""
    for page in files(root):
        translation = PAGES.get(page, "its Spanish")
        known = recorded.get(page, {})
        try:
            both = pairs(root, page)
        except TranslationError as error:
            yield str(error)
            continue
        for english, spanish in both:
            place = f"{page}, {english.name!r}"
            if english.name not in known:
                yield f"{place}: is new, or begins differently"
                continue
            before = known[english.name].split()
            match english.digest != before[0], spanish.digest != before[1]:
                case True, False:
                    yield f"{place}: has changed, and {translation} has not"
                case False, True:
                    yield f"{place}: has not changed, and {translation} has ({spanish.name!r})"
                case True, True:
                    yield f"{place}: has changed, and so has {translation}"
        for name in known.keys() - {english.name for english, _ in both}:
            yield f"{page}, {name!r}: is recorded, and no longer there"


def main() -> int:
    """Say what is to be looked at, or record the pages as they are."""
    parser = argparse.ArgumentParser(prog="uv run poe translations", description=__doc__)
    parser.add_argument(
        "--accept",
        action="store_true",
        help="record that you have read both languages, and that they say the same",
    )
    options = parser.parse_args()
    if options.accept:
        try:
            text = json.dumps(digests(TEMPLATE), indent=2, ensure_ascii=False)
        except TranslationError as error:
            raise SystemExit(str(error)) from error
        (TEMPLATE / RECORD).write_text(f"{text}\n", "utf-8")
        return 0
    found = [*to_look_at(TEMPLATE, json.loads((TEMPLATE / RECORD).read_text("utf-8")))]
    for sentence in found:
        print(sentence)
    print(f"to look at: {len(found)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
