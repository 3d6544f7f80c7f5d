"""The documentation as a site: strict, whole, and in need of no other host."""

import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, expect

from scripts.site import OUTSIDE, build, problems
from tests.projects import REPOSITORY
from tests.test_docs_page import browser, chromium

__all__ = ["browser", "chromium"]

DOCS = REPOSITORY / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("docs"))


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site, below a path, as one of several on a server."""
    site = site.rename(site.parent / "handbook")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=site.parent))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/handbook"
    server.shutdown()
    server.server_close()
    site.rename(site.parent / "site")


def test_every_page_is_built_and_every_link_leads_somewhere(site: Path) -> None:
    """The build fails otherwise."""
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix(".html")
        assert (site / (name.with_name("index.html") if name.stem == "README" else name)).exists()


def test_no_list_table_or_fence_of_a_page_is_plain_text(site: Path) -> None:
    """A forge reads more forms of them than the site does."""
    for path in site.rglob("*.html"):
        shown = re.sub(r"<(pre|code)\b.*?</\1>", "", path.read_text("utf-8"), flags=re.DOTALL)
        assert re.findall(r"(?m)^(?:<p>)?(?:- |\d+\. |\| |```).*$", shown) == [], path


def test_a_page_says_in_which_language_it_is_and_shows_nothing_of_how_that_is_known(
    site: Path,
) -> None:
    """A screen reader reads Spanish as Spanish; what the theme says on the page follows."""
    pages = {path: path.read_text("utf-8") for path in site.rglob("*.html")}
    spanish = {path for path, html in pages.items() if '<html lang="es"' in html}
    english = {path for path, html in pages.items() if '<html lang="en"' in html}
    assert {path.relative_to(site).as_posix() for path in spanish} == {"es/tutorial.html"}
    assert english == pages.keys() - spanish
    for path in spanish:
        assert "Tabla de contenidos" in pages[path]
        assert "language: es" not in pages[path]


def test_every_page_has_its_place_in_the_navigation() -> None:
    index = (DOCS / "README.md").read_text("utf-8")
    linked = re.findall(r"^- \[.+?\]\(([^)#]+)\)", index, re.MULTILINE)
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    pages |= {path.relative_to(DOCS).as_posix() for path in DOCS.glob("es/*.md")}
    assert pages - {*linked} == set()
    assert len(linked) == len({*linked})


def test_every_decision_is_in_their_list_with_its_title() -> None:
    page = (DOCS / "decisions/README.md").read_text("utf-8")
    titles = {
        path.name: path.read_text("utf-8").partition("\n")[0].removeprefix("# ")
        for path in (DOCS / "decisions").glob("0*.md")
    }
    listed = re.findall(r"^\| \[(.+?)\]\((.+?)\)", page, re.MULTILINE)
    assert {name: title for title, name in listed} == titles
    assert len(listed) == len(titles)


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("nowhere.md", "docs/page.md links to nowhere.md, which is not there"),
        ("../nowhere.py", "docs/page.md links to ../nowhere.py, which is not there"),
        ("other.md#nowhere", "1 issue found"),
    ],
)
def test_no_site_is_built_with_a_broken_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str, said: str
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in OUTSIDE:
        (tmp_path / name).write_text("# Page\n", "utf-8")
    (docs / "README.md").write_text("# Index\n\n## Do\n\n- [Page](page.md)\n", "utf-8")
    (docs / "other.md").write_text("# Other\n", "utf-8")
    (docs / "page.md").write_text(f"# Page\n\n[There]({link})\n", "utf-8")
    monkeypatch.setattr("scripts.site.TEMPLATE", tmp_path)
    with pytest.raises(SystemExit, match=re.escape(said)):
        build(tmp_path / "built", "https://example.com")


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ('<a href="other.html">', "links to other.html, which is not there"),
        ('<a href="#there">', "links to #there, which has no such place"),
        ('<a href="page.html#there">', "links to page.html#there, which has no such place"),
        ('<img src="picture.svg">', "links to picture.svg, which is not there"),
        ('<script src="https://cdn.example.com/x.js">', "from another host"),
        ('<link rel="stylesheet" href="//fonts.example.com/x.css">', "from another host"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, html: str, said: str) -> None:
    (tmp_path / "page.html").write_text(f'<h1 id="here">Title</h1>{html}', "utf-8")
    (found,) = problems(tmp_path)
    assert said in found


def test_what_leads_somewhere_is_no_problem(tmp_path: Path) -> None:
    html = '<h1 id="here"><a href="#here"><a href="page.html#here"><a href="https://example.com/">'
    (tmp_path / "page.html").write_text(html, "utf-8")
    assert [*problems(tmp_path)] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_searched_and_read_without_another_host(
    browser: Browser, address: str, scheme: str
) -> None:
    faults: list[str] = []
    with browser.new_context(color_scheme="dark" if scheme == "dark" else "light") as context:
        context.on(
            "request", lambda it: faults.append(it.url) if not it.url.startswith(address) else None
        )
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{address}/index.html")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.keyboard.press("/")
        page.keyboard.type("canary")
        expect(page.get_by_role("link", name="Why an outage is not a 401").last).to_be_visible()
        page.goto(f"{address}/tutorial.html")
        expect(page.get_by_role("heading", name="Tutorial")).to_be_visible()
    assert faults == []
    red = int(re.findall(r"\d+", background)[0])
    assert (red < 128) is (scheme == "dark")
