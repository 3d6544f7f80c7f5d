"""A team runs the template's own tests against its project, wherever they can be fetched."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.answers import DEFAULTS, Answers
from tests.projects import RELEASE, REPOSITORY, Project, commit, output, succeed

# Some that take seconds; the second has no module to test where the default answers were given.
SOME = ("core/test_etag.py", "core/test_passwords.py")
ETAG = "app/core/etag.py"


@pytest.fixture(scope="module")
def published(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template's repository, with some of its tests, and a commit after the release."""
    clone = tmp_path_factory.mktemp("published") / "template"
    shutil.copytree(template, clone)
    for path in SOME:
        for parent in (Path(path).parent, Path()):
            (clone / "tests/service" / parent).mkdir(parents=True, exist_ok=True)
            (clone / "tests/service" / parent / "__init__.py").touch()
        shutil.copy(REPOSITORY / "tests/service" / path, clone / "tests/service" / path)
    shutil.copy(REPOSITORY / "tests/service/conftest.py", clone / "tests/service")
    shutil.copytree(REPOSITORY / "tests/service/provider", clone / "tests/service/provider")
    commit(clone, "The tests")
    succeed("git", "tag", "--force", RELEASE, cwd=clone)
    commit(clone, "After the release")
    return clone


@pytest.fixture(scope="module")
def project(make_project: Callable[[Answers], Project], published: Path) -> Project:
    """A project of that release, committed, that has not been changed since."""
    project = make_project(DEFAULTS)
    name_template(project, str(published), RELEASE)
    succeed("git", "init", "--quiet", cwd=project.folder)
    project.poe()  # uv writes uv.lock where there is none.
    commit(project.folder, "Start from the template")
    return project


def name_template(project: Project, address: str, release: str) -> None:
    """Write an address and a release where Copier records them."""
    answers = project.folder / ".copier-answers.yml"
    recorded = answers.read_text("utf-8").splitlines()
    kept = [line for line in recorded if not line.startswith(("_commit", "_src_path"))]
    lines = [*kept, f"_commit: {release}", f"_src_path: {address}", ""]
    answers.write_text("\n".join(lines), "utf-8")


@pytest.fixture
def changed(project: Project) -> Project:
    """The project, as it was committed."""
    succeed("git", "checkout", "--quiet", ".", cwd=project.folder)
    return project


def test_the_tests_of_the_release_pass_in_an_untouched_project(changed: Project) -> None:
    done = changed.poe("test-template")
    assert done.returncode == 0, output(done)
    *before, last = done.stdout.splitlines()
    assert "passed" in last
    assert f"running the tests of {RELEASE}" in before[-1]
    log = (changed.folder / last.rpartition("log: ")[2]).read_text("utf-8")
    assert "core/test_passwords.py is skipped, because there is no app.core.passwords" in log
    assert succeed("git", "status", "--porcelain", cwd=changed.folder) == ""


def test_an_edit_that_breaks_something_is_named_in_one_line(changed: Project) -> None:
    with (changed.folder / ETAG).open("a", encoding="utf-8") as file:
        file.write("\n\ndef set_etag(response: object, row: object) -> None:\n    pass\n")
    before = succeed("git", "status", "--porcelain", cwd=changed.folder)

    # A hook of git's, and a terminal with colours, set these.
    around = {"FORCE_COLOR": "1", "GIT_DIR": str(changed.folder / ".git"), "GIT_INDEX_FILE": "x"}
    done = replace(changed, env={**changed.env, **around, "PYTEST_ADDOPTS": "-x"}).poe(
        "test-template"
    )

    assert done.returncode == 1, output(done)
    last = done.stdout.splitlines()[-1]
    assert "tests/service/core/test_etag.py" in last
    log = changed.folder / last.rpartition("log: ")[2]
    assert "FAILED tests/service/core/test_etag.py" in log.read_text("utf-8")
    assert succeed("git", "status", "--porcelain", cwd=changed.folder) == before


def test_a_commit_between_two_releases_and_a_short_address_are_found(
    changed: Project, published: Path
) -> None:
    commit_after = succeed("git", "rev-parse", "--short", "HEAD", cwd=published).strip()
    name_template(changed, "gh:org/template", f"{RELEASE}-1-g{commit_after}")
    count = int(changed.env["GIT_CONFIG_COUNT"])
    rerouted = {
        "GIT_CONFIG_COUNT": str(count + 1),
        f"GIT_CONFIG_KEY_{count}": f"url.{published}.insteadOf",
        f"GIT_CONFIG_VALUE_{count}": "https://github.com/org/template",
    }
    done = replace(changed, env={**changed.env, **rerouted}).poe("test-template")
    assert done.returncode == 0, output(done)


@pytest.mark.parametrize(
    ("address", "release"),
    [("https://127.0.0.1:1/org/template.git", RELEASE), ("PUBLISHED", "0.0.7"), ("", RELEASE)],
    ids=["unreachable", "no such release", "no address"],
)
def test_without_access_to_the_template_a_sentence_says_so(
    changed: Project, published: Path, address: str, release: str
) -> None:
    name_template(changed, address.replace("PUBLISHED", str(published)), release)
    done = changed.poe("test-template")
    assert done.returncode == 2, output(done)
    assert done.stdout == ""
    [sentence] = [line for line in done.stderr.splitlines() if line.startswith("test-template: ")]
    assert ".copier-answers.yml" in sentence
    assert "Traceback" not in done.stderr
