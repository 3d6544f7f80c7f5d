"""Projects of every release so far take the work tree's template, and what may follow it."""

import re
from pathlib import Path

import pytest

from tests.answers import DEFAULTS, EVERYTHING, Answers
from tests.projects import RELEASE, REPOSITORY, Project, Projects, succeed, tree, uv
from tests.updates import team
from tests.updates.evolution import SECURITY_TEST, STEPS, has_security_fix
from tests.updates.flips import SETS
from tests.updates.releases import before_this_commit, current_version, find_releases
from tests.updates.report import RecordProperty, Update
from tests.updates.updating import (
    Lives,
    Server,
    Written,
    assert_like_new,
    assert_lints,
    assert_passes,
    assert_tests_pass,
    conflicts,
    recorded_answers,
    resolve,
    update,
)

RELEASES = find_releases()
VERSIONS = [release.version for release in RELEASES]
SECURITY_FIX = STEPS[0].version
# The oldest release and the newest before this commit are looked at as a whole; what they have in
# common, the others have. (A release's own commit has nothing to bring to itself.)
BEFORE = [release.version for release in before_this_commit(RELEASES)]
WHOLE = [*dict.fromkeys(BEFORE[:1] + BEFORE[-1:])]

pytestmark = pytest.mark.skipif(
    not VERSIONS, reason="the history of this clone tells of no release; the chain was tested"
)


def recorded(version: str, kind: str, found: list[str], lost: list[str], *, suite: bool) -> Update:
    """Return the row of an update from a real release."""
    settled = version != current_version()
    return Update(version, kind, len(found), len(lost), suite, settled)


def command_of_the_changelog() -> str:
    """Return the command by which a team sees its own edits of what moves and goes."""
    changelog = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
    found = re.search(r"^git log .* -- .+$", changelog, re.MULTILINE)
    assert found is not None
    return found[0]


@pytest.mark.takes_minutes
@pytest.mark.parametrize("version", VERSIONS)
class TestFromEachRelease:
    def test_an_untouched_project_becomes_a_new_one_seeds_aside(
        self, lives: Lives, tmp_path: Path, record_property: RecordProperty, version: str
    ) -> None:
        folder = lives.start(version, "untouched", DEFAULTS, tmp_path / "service")
        before = tree(folder)

        update(folder, RELEASE)

        found = conflicts(folder)
        recorded(version, "untouched", found, [], suite=False).record(record_property)
        assert found == []
        assert_like_new(folder, before, lives.fresh(RELEASE, DEFAULTS), handed_over=frozenset())

    def test_a_lived_in_project_keeps_every_line_and_passes_its_checks_and_tests(
        self,
        lives: Lives,
        server: Server,
        tmp_path: Path,
        record_property: RecordProperty,
        version: str,
    ) -> None:
        project = lives.project(version, "lived-in", DEFAULTS, tmp_path / "service")
        written = Written.since_the_start(project.folder)
        moved = [path for path in (team.MOVED,) if (project.folder / path).exists()]
        gone = [path for path in team.GONE if (project.folder / path).exists()]
        shown = succeed("sh", "-c", command_of_the_changelog(), cwd=project.folder)
        assert [path for path in [*moved, *gone] if path not in shown] == []

        update(project.folder, RELEASE)

        found, lost = conflicts(project.folder), written.lost(project.folder)
        lost = [line for line in lost if not line.startswith(tuple(gone))]
        whole = version in WHOLE
        unseen = [path for path in found if path not in moved]
        recorded(version, "lived-in", unseen, lost, suite=whole).record(record_property)
        assert found == moved
        assert lost == []
        for path in moved:
            resolve(project.folder, path)
            assert "Moved to" in (project.folder / path).read_text("utf-8")
        server.migrate(project, "what the template brings")
        assert_lints(project)
        if whole:
            project = project.with_own_environment(tmp_path / "venv")
            succeed(*uv(), "sync", "--quiet", cwd=project.folder, env=project.env)
            assert_passes(project, "check")
            assert_tests_pass(project)

    def test_a_security_fix_reaches_a_lived_in_project(
        self, lives: Lives, tmp_path: Path, version: str
    ) -> None:
        project = lives.project(version, "lived-in", DEFAULTS, tmp_path / "service")
        assert not has_security_fix(project.folder)

        update(project.folder, SECURITY_FIX)

        assert [path for path in conflicts(project.folder) if path != team.MOVED] == []
        assert has_security_fix(project.folder)
        if version in WHOLE:
            if (project.folder / team.MOVED).exists():
                resolve(project.folder, team.MOVED)
            assert_tests_pass(project, SECURITY_TEST)


class TestOtherAnswers:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_those_that_were_given_at_the_start_stay(
        self, lives: Lives, tmp_path: Path, record_property: RecordProperty, version: str
    ) -> None:
        folder = lives.start(version, "untouched", EVERYTHING, tmp_path / "service")
        before, answers = tree(folder), recorded_answers(folder)

        update(folder, RELEASE)

        found = conflicts(folder)
        recorded(version, "other answers", found, [], suite=False).record(record_property)
        assert found == []
        assert_like_new(folder, before, lives.fresh(RELEASE, answers), handed_over=frozenset())

    @pytest.mark.parametrize("version", WHOLE)
    @pytest.mark.parametrize("answers", SETS)
    def test_those_that_are_given_with_the_update_are_taken(
        self,
        lives: Lives,
        projects: Projects,
        tmp_path: Path,
        record_property: RecordProperty,
        version: str,
        answers: Answers,
    ) -> None:
        folder = lives.start(version, "untouched", DEFAULTS, tmp_path / "service")
        before, all_answers = tree(folder), recorded_answers(folder) | answers

        update(folder, RELEASE, answers)

        found = conflicts(folder)
        recorded(version, "other answers", found, [], suite=False).record(record_property)
        assert found == []
        new = lives.fresh(RELEASE, all_answers)
        left = lives.fresh(RELEASE, DEFAULTS).keys() - new.keys()
        assert_like_new(folder, before, new, left, handed_over=frozenset())
        assert_lints(Project(folder, projects.environment()))
