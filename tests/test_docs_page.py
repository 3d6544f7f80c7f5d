"""The documentation page of a service, in a real browser that reaches nothing but this machine."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

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
    faults: list[str] = []
    with browser.new_context(color_scheme="dark" if scheme == "dark" else "light") as context:
        context.on("request", lambda it: faults.append(it.url) if not _is_here(it.url) else None)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda it: faults.append(it.text) if it.type == "error" else None)
        page.goto(f"http://127.0.0.1:{dev.port}/docs")
        page.get_by_role("button", name="Authorize").click()
        _sign_in(page)
        page.screenshot(path=_kept(tmp_path, f"docs-{scheme}.png"))
        assert _status(page, "/api/v1/user/me") == "200"
        background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (background != "rgba(0, 0, 0, 0)") is (scheme == "dark")
    assert faults == []


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
