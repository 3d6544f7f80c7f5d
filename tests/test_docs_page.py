"""The documentation page of a service, and the development page that leads to it.

The browser is a real one that reaches nothing but this machine.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.answers import DEFAULTS, Answers
from tests.debian import Program, find_or_skip
from tests.projects import Project
from tests.test_dev import Running, running_dev

_OPTIONS = [
    "--no-sandbox",  # Root has none.
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def chromium(shared_folder: Path) -> Program:
    for name in ("chromium", "google-chrome", "chromium-browser"):
        if found := shutil.which(name):
            return Program(Path(found), {})
    return find_or_skip("usr/lib/chromium/chromium", "chromium", shared_folder)


@pytest.fixture(scope="module")
def browser(chromium: Program) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium.path, args=_OPTIONS, env={**os.environ, **chromium.env}
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def dev(
    make_project: Callable[[Answers], Project], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    with running_dev(make_project(DEFAULTS), tmp_path_factory.mktemp("dev")) as service:
        yield service


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_somebody_signs_in_and_tries_a_route(
    browser: Browser, dev: Running, tmp_path: Path, scheme: str
) -> None:
    with _watched(browser, scheme) as (context, faults):
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{dev.port}/docs")
        page.get_by_role("button", name="Authorize").click()
        _sign_in(page)
        page.screenshot(path=_kept(tmp_path, f"docs-{scheme}.png"))
        assert _status(page, "/api/v1/user/me") == "200"
        background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (background != "rgba(0, 0, 0, 0)") is (scheme == "dark")
    assert faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_one_click_on_the_development_page_leads_to_the_docs_page_as_a_person(
    browser: Browser, dev: Running, tmp_path: Path, scheme: str
) -> None:
    with _watched(browser, scheme) as (context, faults):
        page = context.new_page()
        page.goto(_development_page(dev))
        with page.expect_popup() as opened:
            page.get_by_role("button", name="Docs page as luis").click()
        docs = opened.value
        docs.locator(".authorize.locked").wait_for()
        assert docs.url == f"http://127.0.0.1:{dev.port}/docs"
        assert _status(docs, "/api/v1/user/me") == "200"
        docs.get_by_text('"username": "luis"').first.wait_for()
        # It shows by itself what the service has asked.
        page.locator("#introspections").get_by_text("luis").first.wait_for()
        page.get_by_role("button", name="Token of ana").click()
        page.get_by_role("button", name="Copy").first.wait_for()
        page.screenshot(path=_kept(tmp_path, f"development-{scheme}.png"), full_page=True)
    assert faults == []


def test_the_development_page_works_without_javascript(browser: Browser, dev: Running) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(_development_page(dev))
        page.get_by_role("button", name="Token of eva").click()
        token = page.locator("pre").nth(1).inner_text()
    assert dev.get("/api/v1/user/me", token).json()["username"] == "eva"
    assert dev.get("/api/v1/user/", token).status_code == 403


def test_a_link_to_the_docs_page_signs_nobody_in_by_itself(
    browser: Browser, dev: Running, tmp_path: Path
) -> None:
    with _watched(browser, "light") as (context, faults):
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{dev.port}/docs?login_hint=ana")
        assert page.get_by_label("Username").input_value() == "ana"
        page.screenshot(path=_kept(tmp_path, "login.png"))
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("The login was cancelled.").wait_for()
        page.goto(f"http://127.0.0.1:{dev.port}/docs?login_hint=ana")
        page.get_by_role("button", name="Log in").click()
        page.locator(".authorize.locked").wait_for()
    assert faults == []


@contextmanager
def _watched(browser: Browser, scheme: str) -> Iterator[tuple[BrowserContext, list[str]]]:
    """A browser's profile, and what went wrong in it: errors, and requests to elsewhere."""
    faults: list[str] = []
    with browser.new_context(color_scheme="dark" if scheme == "dark" else "light") as context:
        context.on("request", lambda it: faults.append(it.url) if not _is_here(it.url) else None)
        context.on("weberror", lambda it: faults.append(str(it.error)))
        context.on("console", lambda it: faults.append(it.text) if it.type == "error" else None)
        yield context, faults


def _development_page(dev: Running) -> str:
    """Return the address that the command has printed."""
    found = re.search(r"^ +Development page +(http://\S+)$", dev.said(), re.MULTILINE)
    assert found is not None, dev.said()
    return found[1]


def _sign_in(page: Page) -> None:
    dialog = page.locator(".modal-ux")
    dialog.wait_for()
    scopes = dialog.locator(".scopes input[type=checkbox]:checked")
    assert "user:write" in [scope.get_attribute("data-value") for scope in scopes.all()]
    with page.expect_popup() as opened:
        dialog.locator("button.authorize").first.click()
    login = opened.value
    login.get_by_label("Username").fill("ana")
    login.get_by_role("button", name="Log in").click()
    dialog.get_by_text("Logout").wait_for()
    dialog.locator(".close-modal").click()


def _status(page: Page, path: str) -> str:
    route = page.locator(".opblock", has_text=path).first
    route.click()
    route.get_by_role("button", name="Try it out").click()
    route.get_by_role("button", name="Execute").click()
    return route.locator("td.response-col_status:not(.col_header)").first.inner_text()


def _is_here(url: str) -> bool:
    return re.match(r"(https?://127\.0\.0\.1:|data:|blob:)", url) is not None


def _kept(folder: Path, name: str) -> Path:
    """Return where a picture is put: in a folder that CI keeps, or in that of the test."""
    return Path(os.environ.get("SCREENSHOTS") or folder) / name
