"""Write the tables of questions in README.md and docs/questions.md from copier.yml.

The comment above a question describes it: docs/questions.md has all of it, README.md the first
sentence. Choices and the default are read from the question itself.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import cast

import yaml

TEMPLATE = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- questions:begin -->\n", "<!-- questions:end -->\n"
_HEAD = "| Question | Default | What it decides |\n|---|---|---|\n"


def tables(copier_yml: str) -> dict[str, str]:
    """Return the table of each page, by its path in the repository."""
    short, whole = _HEAD, _HEAD
    for name, question in questions(copier_yml).items():
        described = _comment_above(copier_yml, name)
        start = f"| `{name}` | {_answers(copier_yml, question)} |"
        whole += f"{start} {described} |\n"
        short += f"{start} {re.split(r'(?<=\.) ', described, maxsplit=1)[0]} |\n"
    return {"README.md": short, "docs/questions.md": whole}


def questions(copier_yml: str) -> dict[str, dict[str, object]]:
    """Return what Copier asks, in its order; what is only computed is left out."""
    document = yaml.safe_load(copier_yml)
    return {
        name: cast("dict[str, object]", entry)
        for name, entry in document.items()
        if not name.startswith("_") and entry.get("when", True) is not False
    }


def with_table(page: str, table: str) -> str:
    """Return a page with its table replaced."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks {BEGIN.strip()} or {END.strip()}")
    return before + begin + table + end + after


def _comment_above(copier_yml: str, name: str) -> str:
    found = re.search(rf"^((?:# .*\n)+){name}:\n", copier_yml, re.MULTILINE)
    if found is None:
        raise ValueError(f"copier.yml: write above {name}, as a comment, what it decides")
    return " ".join(line.removeprefix("# ") for line in found[1].splitlines())


def _answers(copier_yml: str, question: dict[str, object]) -> str:
    """Return the default, and what else may be chosen."""
    default = str(question["default"])
    if "{" in default:
        # One that is computed depends on a question above it.
        asked = questions(copier_yml)
        return f"from `{next(word for word in re.findall(r'\w+', default) if word in asked)}`"
    choices = question.get("choices", [])
    values = choices.values() if isinstance(choices, dict) else cast("list[object]", choices)
    others = [f"`{value}`" for value in values if value != default]
    return " or ".join([f"`{default}`" if default else "empty", *others])


def main() -> int:
    """Rewrite both tables."""
    argparse.ArgumentParser(prog="uv run poe questions", description=__doc__).parse_args()
    for path, table in tables((TEMPLATE / "copier.yml").read_text("utf-8")).items():
        page = TEMPLATE / path
        page.write_text(with_table(page.read_text("utf-8"), table), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
