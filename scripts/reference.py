"""Write the pages of the documentation that follow from the code: the generated part of each.

They are the settings, the routes and the commands of a new project, and the project itself to look
at. What they say stands in the code; the page around it is written by hand.
"""

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from scripts.questions import with_table
from scripts.service_tests import render_into

TEMPLATE = Path(__file__).resolve().parents[1]
DESCRIBE = TEMPLATE / "scripts" / "rendered" / "describe.py"
BEGIN, END = "<!-- generated:begin -->\n", "<!-- generated:end -->\n"

# The classes of settings, as a reader looks for them.
GROUPS = {
    "DatabaseSettings": "Environment and database",
    "CoreSettings": "Tokens, callers and requests",
    "ServerSettings": "Server and log",
    "MigrationSettings": "Migrations",
    "Settings": "In app/settings.py",
}
# Teams have edited the lines of these in the code, and a docstring below them would be a conflict.
DESCRIPTIONS = {
    "database_pool_size": "The most connections of one process.",
    "database_pool_timeout": "How long a request waits for one of them, in seconds.",
    "database_connect_timeout": "How long opening a connection may take, in seconds.",
    "database_lock_timeout": "How long a statement waits for a lock, in seconds.",
    "database_statement_timeout": "How long the server works on a statement, in seconds.",
    "database_command_timeout": "How long the service waits for the server's answer, in seconds.",
}
# What is worth a look before choosing.
SHOWN = {
    "app/api/v1/user/router.py": "The routes of a resource",
    "app/api/v1/user/service.py": "What they do",
    "app/database/model/user.py": "The table",
    "tests/api/v1/user/test_router.py": "The tests",
}


class Setting(TypedDict):
    """A setting, as ``scripts/rendered/describe.py`` describes it."""

    kind: str
    default: str
    description: str


class Operation(TypedDict, total=False):
    """What the OpenAPI document says of a method of a path."""

    description: str
    security: list[dict[str, list[str]]]
    responses: dict[str, object]


class OpenApi(TypedDict):
    """The OpenAPI document."""

    paths: dict[str, dict[str, Operation]]


class Described(TypedDict):
    """What ``scripts/rendered/describe.py`` prints."""

    settings: dict[str, dict[str, Setting]]
    openapi: OpenApi


def pages(project: Path, described: Described) -> dict[str, str]:
    """Return the generated part of each page, by its path in the repository."""
    return {
        "docs/settings.md": settings(described["settings"]),
        "docs/routes.md": routes(described["openapi"]),
        "docs/commands.md": commands(project),
        "docs/example.md": example(project),
    }


def with_part(page: str, part: str) -> str:
    """Return a page with its generated part replaced."""
    return with_table(page, part, BEGIN, END)


def settings(groups: dict[str, dict[str, Setting]]) -> str:
    """Return a section with a table for each class of settings."""
    text = ""
    for group, title in GROUPS.items():
        head = "| Setting | Value | Default | What it decides |\n|---|---|---|---|\n"
        text += f"\n## {title}\n\n{head}"
        for name, setting in groups[group].items():
            # The server reads it too, and a project may set another default.
            is_repeated = group == "ServerSettings" and name == "environment"
            if is_repeated or (group != "Settings" and name in groups["Settings"]):
                continue
            described = setting["description"] or DESCRIPTIONS[name]
            what = re.sub(r"\b([A-Z]{3,}_[A-Z_]+|token_data\.\w+)\b", r"`\1`", described)
            what = re.sub(r"(?<![`\w])(\w+://[^\s,]+[^\s,.])", r"`\1`", what)
            text += f"| `{name.upper()}` | {setting['kind']} | {setting['default']} | {what} |\n"
    return text + "\n"


def routes(openapi: OpenApi) -> str:
    """Return the table of routes."""
    text = "| Route | Scope | Success | What it does |\n|---|---|---|---|\n"
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            scopes = sorted(
                {
                    scope
                    for schemes in operation["security"]
                    for required in schemes.values()
                    for scope in required
                }
            )
            scope = ", ".join(f"`{it}`" for it in scopes)
            if not operation["security"]:
                scope = "public"
            success = next(iter(operation["responses"]))
            what = operation["description"].partition("\n\n")[0].replace("\n", " ")
            route = f"`{method.upper()} {path}`"
            text += f"| {route} | {scope or 'any token'} | {success} | {what} |\n"
    return text


def commands(project: Path) -> str:
    """Return the table of the commands of ``poe``, in the order in which it lists them."""
    file = tomllib.loads((project / "template_tools/tasks.toml").read_text("utf-8"))
    groups = [group["tasks"] for _, group in sorted(file.get("groups", {}).items())]
    text = "| Command | What it does |\n|---|---|\n"
    for tasks in [file.get("tasks", {}), *groups]:
        for name, task in tasks.items():
            if not name.startswith("_"):
                text += f"| `uv run poe {name}` | {task['help']} |\n"
    return text


def example(project: Path) -> str:
    """Return the folders of a project, all of its files, and a few of them in full."""
    files = sorted(_files(project))
    text = "| Folder | What is in it |\n|---|---|\n"
    described = _described_folders()
    for folder in sorted({path.parent for path in files} - {Path()}):
        what = described.get(folder.as_posix()) or _docstring(project / folder)
        if what:
            text += f"| `{folder.as_posix()}/` | {what.replace('``', '`')} |\n"
    text += '\n<details markdown="1">\n<summary>All files</summary>\n\n```text\n'
    text += "".join(_tree(files)) + "```\n\n</details>\n"
    for name, title in SHOWN.items():
        content = (project / name).read_text("utf-8")
        text += f"\n## {title}\n\n`{name}`:\n\n```python\n{content}```\n"
    return text + "\n"


def _files(project: Path) -> Iterator[Path]:
    """Yield what Copier has written; a name that is ignored is a tool's."""
    for path in project.rglob("*"):
        inside = path.relative_to(project)
        ignored = {".venv", ".git", ".dev", "__pycache__", "uv.lock"} & {*inside.parts}
        if path.is_file() and not ignored and not inside.parts[0].endswith("_cache"):
            yield inside


def _tree(files: list[Path]) -> Iterator[str]:
    """Yield the lines of a tree, folders first, two blanks for a level."""
    folders: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if len(path.parts) > 1:
            folders[path.parts[0]].append(Path(*path.parts[1:]))
    for name, inside in folders.items():
        yield f"{name}/\n"
        yield from (f"  {line}" for line in _tree(inside))
    yield from (f"{path}\n" for path in files if len(path.parts) == 1)


def _described_folders() -> dict[str, str]:
    """Return what docs/layout.md says of folders, and of packages."""
    page = (TEMPLATE / "docs" / "layout.md").read_text("utf-8")
    tree = page.partition("```text\n")[2].partition("```")[0]
    found: dict[str, str] = {}
    above: list[str] = []
    for line in tree.splitlines():
        name, _, what = line.strip().partition(" ")
        del above[(len(line) - len(line.lstrip())) // 2 :]
        if name.endswith("/"):
            above.append(name.rstrip("/"))
            found["/".join(above)] = what.strip()
    return found


def _docstring(folder: Path) -> str:
    """Return the first sentence of a package's docstring."""
    module = folder / "__init__.py"
    text = ast.get_docstring(ast.parse(module.read_text("utf-8"))) if module.exists() else None
    return re.split(r"(?<=\.)\s", text or "", maxsplit=1)[0].replace("\n", " ")


def main() -> int:
    """Rewrite the generated parts."""
    argparse.ArgumentParser(prog="uv run poe reference", description=__doc__).parse_args()
    project = TEMPLATE / ".dev" / "reference"
    render_into(project, {})
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    command = [os.environ.get("UV", "uv"), "run", "--quiet", "python", str(DESCRIBE)]
    described = subprocess.run(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, check=True
    )
    for path, part in pages(project, json.loads(described.stdout)).items():
        page = TEMPLATE / path
        page.write_text(with_part(page.read_text("utf-8"), part), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
