"""List the sections of the Spanish pages that may no longer say what the English ones say.

tests/translations.json holds, section by section, the hashes of both languages as they were when
a person last read them side by side. After that, `--accept` records what stands there now.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.questions import BEGIN, with_table

TEMPLATE = Path(__file__).resolve().parents[1]
RECORD = Path("tests", "translations.json")
# English pages, and where they stand in Spanish.
PAGES = {"README.md": "README.es.md", "docs/tutorial.md": "docs/es/tutorial.md"}
_HEADING = re.compile(r"(#{1,6}) (.+)")

# The hashes of a section in both languages, by page and section.
type Recorded = Mapping[str, Mapping[str, Mapping[str, str]]]


class TranslationError(Exception):
    """The pages of a pair have different headings, so that their sections cannot be compared."""


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
    """Take a page apart, without its table of questions, whose rows a test of its own holds."""
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
    return [Section(" / ".join(path), level, "\n".join(lines)) for level, path, lines in found]


def pairs(root: Path, page: str) -> list[tuple[Section, Section]]:
    """Return the sections of an English page, each with the Spanish one.

    Args:
        root: The repository.
        page: One of ``PAGES``.

    Raises:
        TranslationError: They have different headings.
    """
    english = sections((root / page).read_text("utf-8"))
    spanish = sections((root / PAGES[page]).read_text("utf-8"))
    if [it.level for it in english] != [it.level for it in spanish]:
        counts = f"{len(english)} and {len(spanish)}"
        raise TranslationError(
            f"{page} and {PAGES[page]} have different headings ({counts}): write a section in both"
        )
    return list(zip(english, spanish, strict=True))


def digests(root: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Return what is to be recorded of the pages as they are."""
    return {
        page: {
            english.name: {"english": english.digest, "spanish": spanish.digest}
            for english, spanish in pairs(root, page)
        }
        for page in PAGES
    }


def to_look_at(root: Path, recorded: Recorded) -> Iterator[str]:
    """Yield a sentence for each section that has changed since both languages were read."""
    for page, translation in PAGES.items():
        known = recorded.get(page, {})
        try:
            both = pairs(root, page)
        except TranslationError as error:
            yield str(error)
            continue
        for english, spanish in both:
            place = f"{page}, {english.name!r}"
            if english.name not in known:
                yield f"{place}: is new, or has another heading"
                continue
            before = known[english.name]
            match english.digest != before["english"], spanish.digest != before["spanish"]:
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
