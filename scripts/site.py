"""Build the documentation as a site, in .dev/docs/site, and check every link in it.

The pages are those of docs/, and the few of the repository that they link to; the navigation is
that of docs/README.md. A link to another file of the repository leads to where it can be read, if
that is known, and is plain text otherwise.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

TEMPLATE = Path(__file__).resolve().parents[1]
CONFIG = TEMPLATE / "zensical.toml"
THEME = TEMPLATE / "docs" / "theme"
# Pages of the repository that are pages of the site too.
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_ITEM = re.compile(r"(?:- |\d+\. )")
_FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)


def build(folder: Path, repository: str | None = None) -> Path:
    """Build the site below a folder, and return where it is.

    Args:
        folder: What is built is in it: the sources, the configuration, and the site.
        repository: The address of the repository's files, such as
            ``https://github.com/org/template/blob/main``.

    Raises:
        SystemExit: A link leads nowhere, or zensical has found something.
    """
    source, site = folder / "source", folder / "site"
    for each in (source, site):
        shutil.rmtree(each, ignore_errors=True)
    _gather(source, repository)
    navigation = [{title: pages} for title, pages in _navigation(source / "index.md").items()]
    (folder / "zensical.toml").write_text(
        CONFIG.read_text("utf-8")
        .replace(
            "[project]\n",
            f'[project]\ndocs_dir = "source"\nsite_dir = "site"\nnav = {_toml(navigation)}\n',
            1,
        )
        .replace(
            "[project.theme]\n", f"[project.theme]\ncustom_dir = {json.dumps(str(THEME))}\n", 1
        ),
        "utf-8",
    )
    program = Path(sys.executable).with_name("zensical")
    # Its messages are coloured, wherever they go.
    environment = os.environ | {"NO_COLOR": "1"}
    done = subprocess.run(
        [program, "build", "--strict", "--clean"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr).partition("Traceback")[0]
        raise SystemExit(said or f"zensical ended with {done.returncode}")
    if found := [*problems(site)]:
        raise SystemExit("\n".join(found))
    return site


def _gather(source: Path, repository: str | None) -> None:
    """Copy the pages, with the links as the site needs them."""
    pages = [*(TEMPLATE / "docs").rglob("*.md"), *(TEMPLATE / name for name in OUTSIDE)]
    for page in pages:
        target = source / _place(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_language(page) + _nested(_with_links(page, repository)), "utf-8")
    for file in (TEMPLATE / "docs").rglob("*"):
        if file.suffix in {".css", ".png", ".svg"}:
            shutil.copy2(file, source / file.relative_to(TEMPLATE / "docs"))


def _place(page: Path) -> Path:
    """Return where a page stands in the site; a forge shows README.md of a folder, a site index."""
    inside = page.relative_to(TEMPLATE)
    if inside.parts[0] == "docs":
        inside = inside.relative_to("docs")
    return inside.with_name("index.md") if inside.name == "README.md" else inside


def _language(page: Path) -> str:
    """Return what tells the theme that a page is not in English; a forge would show it."""
    spanish = page.is_relative_to(TEMPLATE / "docs" / "es")
    return "---\nlanguage: es\n---\n\n" if spanish else ""


def _with_links(page: Path, repository: str | None) -> str:
    """Return the text of a page, whose links lead to where things are in the site."""

    def moved(link: re.Match[str]) -> str:
        picture, words, target, anchor = link[1], link[2], link[3], link[4] or ""
        path = Path(os.path.normpath(page.parent / target))
        if not path.exists():
            raise SystemExit(f"{page.relative_to(TEMPLATE)} links to {target}, which is not there")
        if path.is_dir() and (path / "README.md").exists() and path.is_relative_to(docs):
            path /= "README.md"
        in_site = path.is_relative_to(docs) or path.relative_to(TEMPLATE).as_posix() in OUTSIDE
        if in_site and path.is_file():
            there = os.path.relpath(_place(path), _place(page).parent)
            return f"{picture}[{words}]({there}{anchor})"
        if repository is None:
            return words
        return f"[{words}]({repository}/{path.relative_to(TEMPLATE).as_posix()}{anchor})"

    docs = TEMPLATE / "docs"
    text, result, end = page.read_text("utf-8"), "", 0
    for fence in _FENCE.finditer(text):
        result += _LINK.sub(moved, text[end : fence.start()]) + fence[0]
        end = fence.end()
    return result + _LINK.sub(moved, text[end:])


def _nested(text: str) -> str:
    """Set what belongs to an item of a list apart, as a forge need not have it: by four blanks."""
    lines: list[str] = []
    fence, more = None, 0
    for line in text.splitlines(keepends=True):
        indent = len(line) - len(line.lstrip(" "))
        if fence is None:
            more = 4 - indent if indent in {2, 3} else 0
        if fence is None and _ITEM.match(line) and lines and lines[-1].startswith("    "):
            lines.append("\n")
        is_mark = line.lstrip(" ").startswith("```")
        lines.append(" " * more + line if line.strip() else line)
        if is_mark and fence is None:
            fence = indent
        elif is_mark and fence == indent:
            fence = None
    return "".join(lines)


def _navigation(index: Path) -> dict[str, list[dict[str, str]]]:
    """Return the pages that the index page links, by its headings."""
    found: dict[str, list[dict[str, str]]] = {}
    for part in index.read_text("utf-8").split("\n## ")[1:]:
        title, _, text = part.partition("\n")
        links = re.findall(r"^- \[(.+?)\]\(([^)#]+\.md)\)", text, re.MULTILINE)
        found[title] = [{words: path} for words, path in links]
    return {"Start": [{"About this documentation": "index.md"}], **found}


def _toml(navigation: list[dict[str, list[dict[str, str]]]]) -> str:
    """Return the navigation as TOML, whose strings are JSON's."""

    def pair(key: str, value: str) -> str:
        return f"{{ {json.dumps(key)} = {value} }}"

    sections = []
    for section in navigation:
        for title, pages in section.items():
            entries = [pair(name, json.dumps(path)) for it in pages for name, path in it.items()]
            sections.append(pair(title, f"[{', '.join(entries)}]"))
    return f"[{', '.join(sections)}]"


class _Page(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in {"script", "img", "iframe", "source"} and "src" in given:
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") not in {"canonical", "prev", "next"}:
            self.loaded.append(given.get("href", ""))


def problems(site: Path) -> Iterator[str]:
    """Yield a sentence for each link that leads nowhere, and what comes from another host."""
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        # It is served at any address, so its links are those of the root.
        base = site if path.name == "404.html" else path.parent
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    yield f"{path.relative_to(site)} loads {link} from another host"
                continue
            target = path if not parts.path else (base / unquote(parts.path).lstrip("/")).resolve()
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                yield f"{path.relative_to(site)} links to {link}, which is not there"
            elif target in pages and not {unquote(parts.fragment)} <= pages[target].anchors | {""}:
                yield f"{path.relative_to(site)} links to {link}, which has no such place"
    for path in sorted(site.rglob("*.css")):
        for address in re.findall(
            r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')\s]+)", path.read_text("utf-8")
        ):
            yield f"{path.relative_to(site)} loads {address} from another host"


def main() -> int:
    """Build the site, and say where it is."""
    parser = argparse.ArgumentParser(prog="uv run poe docs", description=__doc__)
    parser.add_argument(
        "--repository",
        metavar="URL",
        help="where the files of the repository can be read, up to their path",
    )
    options = parser.parse_args()
    site = build(TEMPLATE / ".dev" / "docs", options.repository)
    print(f"The documentation is in {site}; open {site / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
