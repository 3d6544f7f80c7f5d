"""Projects take what the template could release next, in one step and step by step."""

from pathlib import Path

import pytest

from tests.answers import DEFAULTS, Answers
from tests.projects import RELEASE, Project, Projects, commit, succeed, tree, uv
from tests.updates.evolution import LAST, STEPS, Step, renamed_answers
from tests.updates.flips import FLIPS, SETS, Flip
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
    update,
)

NAMES = {RELEASE: "the work tree"} | {
    step.version: f"+ {number}. {step.name}" for number, step in enumerate(STEPS, start=1)
}
EARLIER = [version for version in NAMES if version != LAST]
# A team's project takes each step below; that it may begin at any of them is shown by a few.
BEGINNINGS = EARLIER[::4]


def assert_arrived(project: Project, steps: tuple[Step, ...] = STEPS) -> None:
    """Check that what the steps bring is there."""
    assert [step.name for step in steps if not step.arrived(project.folder)] == []


@pytest.mark.takes_minutes
class TestALivedInProject:
    def test_it_passes_its_checks_and_its_tests_before_any_update(
        self, lives: Lives, tmp_path: Path
    ) -> None:
        project = lives.project(RELEASE, "lived-in", DEFAULTS, tmp_path / "service")
        assert_passes(project, "check")
        assert_tests_pass(project)

    @pytest.mark.parametrize("version", BEGINNINGS, ids=NAMES.get)
    def test_it_takes_all_later_releases_at_once(
        self,
        lives: Lives,
        server: Server,
        tmp_path: Path,
        record_property: RecordProperty,
        version: str,
    ) -> None:
        project = lives.project(version, "lived-in", DEFAULTS, tmp_path / "service")
        written = Written.since_the_start(project.folder)

        update(project.folder, LAST)

        found, lost = conflicts(project.folder), written.lost(project.folder)
        whole = version == RELEASE
        Update(NAMES[version], "lived-in", len(found), len(lost), whole).record(record_property)
        assert found == []
        assert lost == []
        assert_arrived(project)
        server.migrate(project, "what the template brings" if whole else None)
        assert_lints(project)
        if whole:
            project = project.with_own_environment(tmp_path / "venv")
            succeed(*uv(), "sync", "--quiet", cwd=project.folder, env=project.env)
            assert_passes(project, "check")
            assert_tests_pass(project)


@pytest.mark.takes_minutes
class TestALivedInProjectThatTakesEachRelease:
    def test_nothing_is_lost_on_the_way_and_its_tests_pass_at_the_end(
        self,
        lives: Lives,
        server: Server,
        tmp_path: Path,
        record_property: RecordProperty,
    ) -> None:
        project = lives.project(RELEASE, "lived-in", DEFAULTS, tmp_path / "service")
        written = Written.since_the_start(project.folder)
        found: list[str] = []
        lost: list[str] = []
        for number, step in enumerate(STEPS, start=1):
            update(project.folder, step.version)
            found += conflicts(project.folder)
            lost += written.lost(project.folder)
            assert_arrived(project, STEPS[:number])
            # The other steps leave the tables as they are.
            if step.brings_table:
                server.migrate(project, f"what {step.name} brings")
            commit(project.folder, f"Take {step.name}")
        Update("each release", "lived-in", len(found), len(lost), suite=True).record(
            record_property
        )
        assert found == []
        assert lost == []
        server.migrate(project)
        assert_passes(project, "check")
        assert_tests_pass(project)


class TestAnUntouchedProject:
    @pytest.mark.parametrize("version", EARLIER, ids=NAMES.get)
    def test_it_becomes_a_new_one_seeds_aside(
        self, lives: Lives, tmp_path: Path, record_property: RecordProperty, version: str
    ) -> None:
        folder = lives.start(version, "untouched", DEFAULTS, tmp_path / "service")
        before = tree(folder)

        update(folder, LAST)

        found = conflicts(folder)
        Update(NAMES[version], "untouched", len(found), 0).record(record_property)
        assert found == []
        assert_like_new(folder, before, lives.fresh(LAST, DEFAULTS))


class TestOtherAnswersFromTheStart:
    @pytest.mark.parametrize("answers", SETS)
    def test_they_stay(
        self, lives: Lives, tmp_path: Path, record_property: RecordProperty, answers: Answers
    ) -> None:
        folder = lives.start(RELEASE, "untouched", answers, tmp_path / "service")
        before = tree(folder)

        update(folder, LAST)

        found = conflicts(folder)
        Update(NAMES[RELEASE], "other answers", len(found), 0).record(record_property)
        assert found == []
        assert_like_new(folder, before, lives.fresh(LAST, renamed_answers(answers)))


@pytest.mark.parametrize("flip", FLIPS, ids=str)
class TestAnotherAnswer:
    def test_one_that_is_given_with_the_update_is_taken(
        self,
        lives: Lives,
        projects: Projects,
        server: Server,
        tmp_path: Path,
        record_property: RecordProperty,
        flip: Flip,
    ) -> None:
        folder = lives.start(RELEASE, "untouched", DEFAULTS, tmp_path / "service")
        before, recorded = tree(folder), recorded_answers(folder)

        update(folder, LAST, renamed_answers(flip.answers))

        found = conflicts(folder)
        Update(NAMES[RELEASE], "other answers", len(found), 0).record(record_property)
        assert found == []
        answers = renamed_answers(recorded | flip.answers)
        new = lives.fresh(LAST, answers)
        left = lives.fresh(LAST, DEFAULTS).keys() - new.keys()
        assert_like_new(folder, before, new, left)
        project = Project(folder, projects.environment())
        server.migrate(project)
        assert_lints(project)


class TestOtherAnswersOfATeam:
    @pytest.mark.parametrize("answers", SETS)
    def test_they_are_taken_and_nothing_is_lost(
        self, lives: Lives, tmp_path: Path, record_property: RecordProperty, answers: Answers
    ) -> None:
        folder = lives.start(RELEASE, "lived-in", DEFAULTS, tmp_path / "service")
        # Who leaves GitHub, or containers, leaves what was written for them.
        left = [".github/"] if answers["ci"] != "github" else []
        left += ["Dockerfile", "compose.yaml"] if answers["deploy"] == "none" else []
        written = Written.since_the_start(folder).without(*left)

        update(folder, LAST, renamed_answers(answers))

        found, lost = conflicts(folder), written.lost(folder)
        Update(NAMES[RELEASE], "lived-in, other answers", len(found), len(lost)).record(
            record_property
        )
        assert found == []
        assert lost == []
