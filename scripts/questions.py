"""Write the tables of questions in README.md and docs/questions.md from copier.yml.

The comment above a question describes it: docs/questions.md has all of it, README.md the first
sentence. Choices and the default are read from the question itself.
"""

import argparse
import re
import sys
from pathlib import Path

import yaml

from scripts.guard.template import Template
from scripts.releases import NOT_RELEASED

TEMPLATE = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- questions:begin -->\n", "<!-- questions:end -->\n"
_HEAD = "| Question | Default | What it decides |\n|---|---|---|\n"


def tables(copier_yml: str) -> dict[str, str]:
    """Return the table of each page, by its path in the repository."""
    template = Template(NOT_RELEASED, {}, yaml.safe_load(copier_yml), "")
    short, whole = _HEAD, _HEAD
    for name in template.asked:
        described = _comment_above(copier_yml, name)
        start = f"| `{name}` | {_answers(template, name)} |"
        whole += f"{start} {described} |\n"
        short += f"{start} {re.split(r'(?<=\.) ', described, maxsplit=1)[0]} |\n"
    return {"README.md": short, "docs/questions.md": whole}


def with_table(page: str, table: str, begin: str = BEGIN, end: str = END) -> str:
    """Return a page with what stands between two comments replaced."""
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page lacks {begin.strip()} or {end.strip()}")
    return before + begin + table + end + after


def _comment_above(copier_yml: str, name: str) -> str:
    found = re.search(rf"^((?:# .*\n)+){name}:\n", copier_yml, re.MULTILINE)
    if found is None:
        raise ValueError(f"copier.yml: write above {name}, as a comment, what it decides")
    return " ".join(line.removeprefix("# ") for line in found[1].splitlines())


def _answers(template: Template, name: str) -> str:
    """Return the default, and what else may be chosen."""
    default = str(template.asked[name]["default"])
    if "{" in default:
        # One that is computed depends on a question above it; the language only words it.
        words = re.findall(r"\w+", default)
        above = [word for word in words if word in template.asked and word != "language"]
        if above:
            return f"from `{above[0]}`"
        default = str(template.default_answers[name])
    others = [f"`{value}`" for value in template.choices(name) if value != default]
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
