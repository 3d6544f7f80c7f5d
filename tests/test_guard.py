"""The guard says what a change of the template means for projects, and stops what breaks them."""

import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import copier
import pytest

from scripts.guard import about_code as code
from scripts.guard import about_files as files
from scripts.guard import about_questions as questions
from scripts.guard import about_schema as schema
from scripts.guard import about_shared as shared
from scripts.guard.judgement import RULES, Judgement, judge
from scripts.guard.rules import Finding, Kind, Rule
from scripts.guard.template import template_in
from scripts.releases import NoHistoryError, releases
from tests.projects import REPOSITORY, commit, copy_template, render, run, succeed

CHANGELOG = "# Changelog\n\n## [1.0.0] - 2026-11-22\n\n- The first release.\n"
UPDATE_ONLY = "{% if _copier_operation == 'update' %}FILE{% endif %}"
NEW_QUESTION = """
colour:
  type: str
  help: What colour it has.
  default: blue
  choices: [blue, red]
"""


@dataclass(frozen=True)
class Work:
    """A repository whose first release is the template of our work tree."""

    folder: Path

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text, which must be there."""
        file = self.folder / path
        text = file.read_text("utf-8")
        assert old in text, f"{path} has no {old!r} any more"
        file.write_text(text.replace(old, new, 1), "utf-8")

    def append(self, path: str, text: str) -> None:
        """Add a text to the end of a file, which is made if it is missing."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(text)

    def move(self, old: str, new: str) -> None:
        """Move a file."""
        (self.folder / new).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / old).rename(self.folder / new)

    def delete(self, path: str) -> None:
        """Delete a file."""
        (self.folder / path).unlink()

    def note(self, entry: str, section: str = "[Unreleased]") -> None:
        """Write an entry into a new section of the changelog."""
        self.edit("CHANGELOG.md", "## [1.0.0]", f"## {section}\n\n- {entry}\n\n## [1.0.0]")

    def drop_block(self, question: str) -> None:
        """Delete a question from copier.yml."""
        text = (self.folder / "copier.yml").read_text("utf-8")
        before, _, rest = text.partition(f"\n{question}:\n")
        assert rest, f"copier.yml has no {question} any more"
        rest = rest[rest.index("\n\n") :]
        (self.folder / "copier.yml").write_text(before + rest, "utf-8")

    def release(self, version: str) -> None:
        """Commit everything as a release."""
        (self.folder / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n', "utf-8")
        commit(self.folder, f"Release {version}")

    def judge(self, since: str | None = None) -> Judgement:
        """Ask the guard."""
        return judge(self.folder, since)

    def found(self, rule: Rule) -> list[Finding]:
        """Return what one rule finds."""
        start = rule.sentence.partition("{what}")[0]
        return [f for f in self.judge().findings if f.kind is rule.kind and f.why.startswith(start)]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one release."""
    folder = tmp_path_factory.mktemp("released") / "repository"
    folder.mkdir()
    copy_template(folder)
    (folder / "CHANGELOG.md").write_text(CHANGELOG, "utf-8")
    succeed("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    Work(folder).release("1.0.0")
    return folder


@pytest.fixture
def work(released: Path, tmp_path: Path) -> Work:
    """A copy of that repository, to change."""
    shutil.copytree(released, tmp_path / "work", symlinks=True)
    return Work(tmp_path / "work")


# --- A case for each rule ------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A change, the rule that finds it, and the finding's place and detail."""

    rule: Rule
    where: str
    what: str
    change: Callable[[Work], None]


CASES: list[Case] = []


def case(
    rule: Rule, where: str, what: str = ""
) -> Callable[[Callable[[Work], None]], Callable[[Work], None]]:
    """Note that a rule finds a change."""

    def note(change: Callable[[Work], None]) -> Callable[[Work], None]:
        CASES.append(Case(rule, where, what, change))
        return change

    return note


@case(files.moved, "app/health.py", "app/core/health.py")
def a_file_of_ours_moves(work: Work) -> None:
    work.move("template/app/health.py", "template/app/core/health.py")


@case(files.moved, "compose.yaml", "docker-compose.yaml")
def a_shared_file_is_renamed_and_edited(work: Work) -> None:
    work.move("template/compose.yaml", "template/docker-compose.yaml")
    work.append("template/docker-compose.yaml", "# Another line.\n")


@case(files.deleted, "app/core/middleware.py", "app/core/middleware.py")
def a_file_of_ours_is_deleted(work: Work) -> None:
    work.delete("template/app/core/middleware.py")


@case(files.deleted, "README.md", "README.md")
def a_seed_that_only_skip_if_exists_names_is_deleted(work: Work) -> None:
    work.delete("template/README.md.jinja")


@case(files.let_go, "compose.yaml", "compose.yaml")
def a_file_is_deleted_and_excluded(work: Work) -> None:
    work.delete("template/compose.yaml")
    work.edit("copier.yml", "_exclude:\n", "_exclude:\n  - compose.yaml\n")


@case(files.seed_dropped, "app/api/v1/user/service.py")
def an_example_is_dropped(work: Work) -> None:
    work.delete("template/app/api/v1/user/service.py.jinja")


@case(files.handed_over_unprotected, "compose.yaml")
def a_file_is_handed_over_by_exclude_alone(work: Work) -> None:
    line = UPDATE_ONLY.replace("FILE", "compose.yaml")
    work.edit("copier.yml", "_exclude:\n", f'_exclude:\n  - "{line}"\n')


@case(files.handed_over, "compose.yaml", "compose.yaml")
def a_file_is_handed_over(work: Work) -> None:
    work.edit("copier.yml", "_skip_if_exists:\n", "_skip_if_exists:\n  - compose.yaml\n")


@case(files.taken_back, "app/hooks.py", "_skip_if_exists")
def a_seed_is_skipped_no_longer(work: Work) -> None:
    work.edit("copier.yml", "  - app/hooks.py\n", "")


@case(files.taken_back, "app/database/model/user.py", "_exclude")
def a_seed_is_excluded_no_longer(work: Work) -> None:
    line = UPDATE_ONLY.replace("FILE", "app/database/model/user.py")
    work.edit("copier.yml", f'  - "{line}"\n', "")


@case(files.exclude_unknown_to_a_release, "_exclude", "in those of 1.0.0 'colour' is undefined")
def a_new_question_decides_about_a_file(work: Work) -> None:
    line = "{% if colour == 'red' %}compose.yaml{% endif %}"
    work.append("copier.yml", NEW_QUESTION)
    work.edit("copier.yml", "_exclude:\n", f'_exclude:\n  - "{line}"\n')


@case(files.other_answers_ship_it, "compose.yaml", "compose.yaml")
def an_answer_leaves_a_file_out(work: Work) -> None:
    line = "{% if ci == 'none' %}compose.yaml{% endif %}"
    work.edit("copier.yml", "_exclude:\n", f'_exclude:\n  - "{line}"\n')


@case(schema.second_migration, "migrations/versions/0002_more.py")
def a_second_migration_is_shipped(work: Work) -> None:
    work.append("template/migrations/versions/0002_more.py", '"""More."""\n')


@case(schema.migration_edited, "migrations/versions/0001_initial.py")
def the_migration_is_edited(work: Work) -> None:
    work.append("template/migrations/versions/0001_initial.py.jinja", "# A comment is too much.\n")


@case(schema.migration_edited, "migrations/versions/0001_initial.py")
def the_migration_gets_another_revision(work: Work) -> None:
    every_table_gets_a_column(work)
    work.edit(
        "template/migrations/versions/0001_initial.py.jinja",
        'revision: str = "',
        'revision: str = "a',
    )


@case(schema.migration_follows, "migrations/versions/0001_initial.py")
def the_migration_follows_a_model(work: Work) -> None:
    the_template_gets_a_table(work)
    work.append("template/migrations/versions/0001_initial.py.jinja", "MORE = 1\n")


@case(files.seed_edited, "app/hooks.py")
def a_seed_is_edited(work: Work) -> None:
    work.append("template/app/hooks.py", "NEW = 1\n")


@case(files.seed_added, "app/api/v1/order.py")
def a_seed_is_added(work: Work) -> None:
    work.append("template/app/api/v1/order.py", '"""An example."""\n')


@case(files.seed_added_everywhere, "app/more.py")
def a_seed_that_reaches_every_project_is_added(work: Work) -> None:
    work.append("template/app/more.py", '"""For more."""\n')
    work.edit("copier.yml", "_skip_if_exists:\n", "_skip_if_exists:\n  - app/more.py\n")


@case(files.added_among_theirs, "app/utils/clock.py")
def a_file_is_added_where_teams_have_theirs(work: Work) -> None:
    work.append("template/app/utils/clock.py", '"""Time."""\n')


@case(files.added, "app/core/clock.py")
def a_file_is_added_where_all_is_ours(work: Work) -> None:
    work.append("template/app/core/clock.py", '"""Time."""\n')


@case(files.test_changed, "tests/core/test_errors.py")
def a_test_is_edited(work: Work) -> None:
    work.append("template/tests/core/test_errors.py", "NEW = 1\n")


@case(files.reworded, "app/core/errors.py")
def a_comment_is_added(work: Work) -> None:
    work.append("template/app/core/errors.py", "# Only words.\n")


@case(files.edited, "app/core/errors.py")
def a_file_of_ours_is_edited(work: Work) -> None:
    work.append("template/app/core/errors.py", "_NEW = 1\n")


@case(questions.asks_for_trust, "_tasks")
def a_task_is_run(work: Work) -> None:
    work.append("copier.yml", '\n_tasks: ["uv sync"]\n')


@case(questions.without_default, "colour")
def a_question_has_no_default(work: Work) -> None:
    work.append("copier.yml", NEW_QUESTION.replace("  default: blue\n", ""))


@case(questions.removed, "description", "description")
def a_question_is_removed(work: Work) -> None:
    work.drop_block("description")


@case(questions.renamed, "ci", "pipeline")
def a_question_is_renamed(work: Work) -> None:
    work.edit("copier.yml", "\nci:\n", "\npipeline:\n")
    work.edit("copier.yml", "  default: github\n", "  default: \"{{ ci | default('github') }}\"\n")
    work.edit("copier.yml", "{% if ci != 'github'", "{% if pipeline | default(ci) != 'github'")
    work.edit("copier.yml", "{% if ci != 'gitlab'", "{% if pipeline | default(ci) != 'gitlab'")
    work.edit("copier.yml", "{% if ci == 'none'", "{% if pipeline | default(ci) == 'none'")
    work.edit("copier.yml", "{{ ci != 'none' }}", "{{ pipeline != 'none' }}")


@case(questions.tightened, "ci", "'none'")
def a_choice_is_removed(work: Work) -> None:
    work.edit("copier.yml", "    Nobody: none\n", "")


@case(questions.tightened, "description", f"'{'a' * 50}... of length 200'")
def a_validator_accepts_less(work: Work) -> None:
    work.edit("copier.yml", "{1,200}", "{1,199}")


@case(questions.more_reserved, "reserved_slugs", "structlog")
def a_name_is_reserved(work: Work) -> None:
    work.edit("copier.yml", "watchfiles websockets", "structlog watchfiles websockets")


@case(questions.discards, "sso_issuer")
def a_question_gets_a_condition(work: Work) -> None:
    work.edit("copier.yml", "sso_issuer:\n", "sso_issuer:\n  when: \"{{ ci != 'none' }}\"\n")


@case(questions.told, "sso_client_secret")
def a_secret_is_told(work: Work) -> None:
    work.edit("copier.yml", "  secret: true\n", "")


@case(questions.hushed, "sso_issuer")
def a_question_becomes_secret(work: Work) -> None:
    work.edit("copier.yml", "sso_issuer:\n", "sso_issuer:\n  secret: true\n")


@case(questions.asked, "colour", "colour")
def a_question_is_added(work: Work) -> None:
    work.append("copier.yml", NEW_QUESTION)


@case(questions.other_default, "ci")
def a_default_changes(work: Work) -> None:
    work.edit("copier.yml", "  default: github\n", "  default: gitlab\n")


@case(questions.more_choices, "ci", "forgejo")
def a_choice_is_added(work: Work) -> None:
    work.edit("copier.yml", "    Nobody: none\n", "    Nobody: none\n    Forgejo: forgejo\n")


@case(questions.computed_otherwise, "reserved_slugs")
def a_computed_value_changes(work: Work) -> None:
    work.edit("copier.yml", "watchfiles websockets", "structlog watchfiles websockets")


@case(questions.asked_otherwise, "description")
def a_validator_accepts_more(work: Work) -> None:
    work.edit("copier.yml", "{1,200}", "{1,400}")


@case(questions.older_copier, "_min_copier_version")
def an_older_copier_is_admitted(work: Work) -> None:
    work.edit("copier.yml", '_min_copier_version: "9.19.0"', '_min_copier_version: "9.0.0"')


@case(questions.newer_copier, "_min_copier_version")
def a_newer_copier_is_needed(work: Work) -> None:
    work.edit("copier.yml", '_min_copier_version: "9.19.0"', '_min_copier_version: "9.99.0"')


@case(questions.message, "_message_after_copy")
def a_message_changes(work: Work) -> None:
    work.edit("copier.yml", "_message_after_copy: |\n", "_message_after_copy: |\n  Hello.\n")


@case(questions.patterns, "_exclude")
def a_cache_is_excluded(work: Work) -> None:
    work.edit("copier.yml", "_exclude:\n", "_exclude:\n  - .other_cache\n")


@case(questions.setting, "_preserve_symlinks")
def a_setting_of_copier_changes(work: Work) -> None:
    work.edit("copier.yml", "_preserve_symlinks: true", "_preserve_symlinks: false")


@case(code.asks_for_a_new_name, "app/main.py", "app.hooks.on_error")
def our_code_calls_a_new_hook(work: Work) -> None:
    work.edit("template/app/main.py", "hooks.configure(app)", "hooks.on_error(app)")


@case(code.asks_for_a_new_name, "app/health.py", "app.settings.get_settings")
def our_code_imports_a_new_name(work: Work) -> None:
    work.append("template/app/health.py", "from app.settings import get_settings\n")


@case(code.name_gone, "app/utils/sso/introspection.py", "CurrentToken")
def a_name_of_ours_is_gone(work: Work) -> None:
    work.edit("template/app/utils/sso/introspection.py", "CurrentToken = ", "Token = ")


@case(code.name_gone, "app/core/errors.py", "GatewayTimeout")
def a_class_of_the_errors_is_gone(work: Work) -> None:
    path = work.folder / "template/app/core/errors.py"
    path.write_text(path.read_text("utf-8").replace("GatewayTimeout", "TimedOut"), "utf-8")


@case(code.name_gone, "app/core/settings.py", "CoreSettings")
def a_name_that_only_a_seed_imports_is_gone(work: Work) -> None:
    work.edit("template/app/core/settings.py", "class CoreSettings", "class OurSettings")


@case(code.name_gone, "devtools/pytest_plugin.py", "bearer")
def a_fixture_is_renamed(work: Work) -> None:
    work.edit("template/devtools/pytest_plugin.py", "def bearer(", "def caller(")


@case(code.fixture_gone, "devtools/pytest_plugin.py", "bearer")
def a_fixture_becomes_a_function(work: Work) -> None:
    work.edit("template/devtools/pytest_plugin.py", "@pytest.fixture\ndef bearer(", "def bearer(")


@case(code.member_gone, "app/core/errors.py", "Problem.response")
def a_method_is_renamed(work: Work) -> None:
    work.edit("template/app/core/errors.py", "def response(self)", "def answer(self)")


@case(code.member_gone, "app/core/errors.py", "Problem.members")
def an_attribute_is_renamed(work: Work) -> None:
    work.edit("template/app/core/errors.py", "self.members = members", "self.extras = members")


@case(code.variable_gone, "app/core/settings.py", "MAX_BODY_SIZE")
def a_setting_is_renamed(work: Work) -> None:
    work.edit("template/app/core/settings.py", "    max_body_size: int", "    body_limit: int")


@case(code.variable_required, "app/core/settings.py", "MAX_BODY_SIZE")
def a_setting_loses_its_default(work: Work) -> None:
    work.edit("template/app/core/settings.py", "Field(default=1_000_000, ge=0", "Field(ge=0")


@case(code.variable_required, "app/core/settings.py", "TENANT")
def a_setting_without_a_default_is_added(work: Work) -> None:
    work.edit(
        "template/app/core/settings.py",
        "    max_body_size: int",
        "    tenant: str\n    max_body_size: int",
    )


@case(code.field_gone, "app/core/settings.py", "max_body_size")
def a_setting_is_renamed_and_its_variable_is_still_read(work: Work) -> None:
    work.edit(
        "template/app/core/settings.py",
        "    max_body_size: int = Field(",
        "    body_limit: int = Field("
        'validation_alias=AliasChoices("body_limit", "max_body_size"), ',
    )


@case(schema.column_changed, "app/database/base.py", "version")
def a_column_of_every_table_changes(work: Work) -> None:
    work.edit("template/app/database/base.py", 'text("1")', 'text("0")')


@case(schema.column_changed, "app/database/base.py", "created_at")
def a_column_of_every_table_is_renamed(work: Work) -> None:
    work.edit("template/app/database/base.py", "    created_at: datetime", "    born: datetime")


@case(schema.column_changed, "app/database/base.py", "naming_convention")
def constraints_are_named_otherwise(work: Work) -> None:
    work.edit("template/app/database/base.py", '"pk_%(table_name)s"', '"%(table_name)s_pk"')


@case(schema.table_added, "app/database/base.py", "TableBase.note")
def every_table_gets_a_column(work: Work) -> None:
    work.edit(
        "template/app/database/base.py",
        "    version: int",
        "    note: str | None = None\n    version: int",
    )


@case(schema.table_added, "app/core/outbox.py", "Message")
def the_template_gets_a_table(work: Work) -> None:
    work.append(
        "template/app/core/outbox.py", "class Message(TableBase, table=True):\n    x: int\n"
    )


@case(shared.mark_moved, ".gitignore", "# --- yours ---")
def a_line_is_added_below_the_teams(work: Work) -> None:
    work.append("template/.gitignore.jinja", ".other_cache/\n")


@case(shared.mark_moved, "ruff.toml", "# Yours:")
def a_place_of_the_teams_vanishes(work: Work) -> None:
    work.edit("template/ruff.toml", "    # Yours:\n", "")


@case(shared.sorted_dependencies, "pyproject.toml")
def the_dependencies_are_sorted(work: Work) -> None:
    path = work.folder / "template/pyproject.toml.jinja"
    text = path.read_text("utf-8")
    start = text.index("dependencies = [\n") + len("dependencies = [\n")
    end = text.index("    # Yours: uv add appends")
    listed = sorted(text[start:end].splitlines(keepends=True), key=lambda line: line.split(">")[0])
    # [extras] come after their name in the alphabet, and before a longer one in ASCII; and the
    # conditions have no place in an alphabet.
    listed = [line for line in listed if "-settings" not in line and "{%" not in line]
    path.write_text(text[:start] + "".join(listed) + text[end:], "utf-8")


@case(shared.dependencies_without_end, "pyproject.toml")
def the_list_of_dependencies_loses_its_end(work: Work) -> None:
    work.edit("template/pyproject.toml.jinja", "    # Yours: uv add appends below.\n", "")


@case(shared.unbounded, "pyproject.toml", "anyio")
def a_dependency_loses_its_upper_bound(work: Work) -> None:
    work.edit("template/pyproject.toml.jinja", '"anyio>=4.16,<5"', '"anyio>=4.16"')


@case(shared.bound_lowered, "pyproject.toml", "anyio")
def a_dependency_may_be_older(work: Work) -> None:
    work.edit("template/pyproject.toml.jinja", '"anyio>=4.16,<5"', '"anyio>=4.2,<5"')


@case(shared.dependency_dropped, "pyproject.toml", "anyio")
def a_dependency_is_dropped(work: Work) -> None:
    work.edit("template/pyproject.toml.jinja", '    "anyio>=4.16,<5",\n', "")


@pytest.mark.parametrize("case", [pytest.param(c, id=c.change.__name__) for c in CASES])
def test_a_change_is_found_and_its_sentence_says_what_to_do(work: Work, case: Case) -> None:
    case.change(work)
    judgement = work.judge()
    why = case.rule.sentence.replace("{what}", case.what)
    found = [f for f in judgement.findings if f.where == case.where and f.why == why]
    assert [f.kind for f in found] == [case.rule.kind], judgement.report()
    assert case.where in judgement.report()
    assert why in judgement.report()
    if case.rule.kind is Kind.FORBIDDEN:
        assert not judgement.passed
        assert "guard: FORBIDDEN" in judgement.report()


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=c.change.__name__) for c in CASES if c.rule.kind is Kind.CHANGELOG],
)
def test_what_the_changelog_must_say_is_asked_for(work: Work, case: Case) -> None:
    case.change(work)
    work.note("Something else.")
    must_say = case.rule.must_say.replace("{what}", case.what)
    said = f'does not say "{must_say}" under [Unreleased], because of {case.where}.'
    assert (said in work.judge().missing) == bool(must_say)
    if must_say:
        work.edit("CHANGELOG.md", "Something else.", f"Something about {must_say}.")
        assert said not in work.judge().missing


def test_each_rule_has_a_case_and_is_applied() -> None:
    def names(rules: list[Rule]) -> set[str]:
        return {rule.find.__name__ for rule in rules}

    assert names([case.rule for case in CASES]) == names([*RULES])
    assert all(rule.find.__doc__ for rule in RULES)
    written = [v for m in (code, files, questions, schema, shared) for v in vars(m).values()]
    assert names([v for v in written if isinstance(v, Rule)]) == names([*RULES])


def test_the_names_of_decision_0001_are_the_ones_that_are_watched(work: Work) -> None:
    decision = (REPOSITORY / "docs/decisions/0001-layout-and-ownership.md").read_text("utf-8")
    [theirs] = re.findall(r"through four fixed names only: (.*?)\. ", decision)
    assert {tuple(n.rsplit(".", 1)) for n in re.findall(r"`(.*?)`", theirs)} == code.FROM_THEM
    [ours] = re.findall(r"names for the template's code are as fixed: (.*), the classes", decision)
    watched = {name for names in code.FROM_US.values() for name in names}
    assert {*re.findall(r"`(.*?)`", ours)} == watched
    template = template_in(work.folder)
    for path, names in code.FROM_US.items():
        for name in names:
            assert re.search(rf"^(?![ #]).*\b{name}\b", template.text(path), re.MULTILINE), name


def test_each_sentence_is_one() -> None:
    for rule in RULES:
        assert rule.sentence[0] in '`{"' or rule.sentence[0].isupper()
        assert rule.sentence.endswith(".")
        assert ". " not in rule.sentence


# --- What is right passes ------------------------------------------------------------------------


def test_no_change_passes(work: Work) -> None:
    judgement = work.judge()
    assert judgement.passed
    assert judgement.findings == []
    assert "compared with release 1.0.0" in judgement.compared


def test_a_change_that_the_changelog_tells_passes(work: Work) -> None:
    a_file_of_ours_is_edited(work)
    work.note("An error is told better.")
    assert work.judge().passed
    assert work.judge().report().endswith("guard: passed.")


def test_what_is_safe_needs_no_entry(work: Work) -> None:
    a_test_is_edited(work)
    a_comment_is_added(work)
    a_validator_accepts_more(work)
    assert {finding.kind for finding in work.judge().findings} == {Kind.SAFE}
    assert work.judge().passed


def test_a_moved_file_that_leaves_a_shim_passes(work: Work) -> None:
    a_file_of_ours_moves(work)
    work.append("template/app/health.py", "from app.core.health import router as router\n")
    work.note("The health check has moved.")
    assert work.judge().passed


def test_a_file_moves_if_the_old_one_is_released(work: Work) -> None:
    a_shared_file_is_renamed_and_edited(work)
    work.edit("copier.yml", "_exclude:\n", "_exclude:\n  - /compose.yaml\n")
    work.note("compose.yaml is yours; docker-compose.yaml follows it.")
    assert work.judge().passed


def test_a_name_that_moves_may_be_imported_from_its_old_place(work: Work) -> None:
    path = work.folder / "template/app/utils/sso/introspection.py"
    new = work.folder / "template/app/utils/sso/dependency.py"
    new.write_text(path.read_text("utf-8"), "utf-8")
    path.write_text("from app.utils.sso.dependency import CurrentToken, introspect_token\n")
    work.note("Tokens are checked in dependency.py.")
    assert work.judge().passed


def test_a_renamed_question_may_decide_about_a_file(work: Work) -> None:
    a_question_is_renamed(work)
    work.note("ci is called pipeline, for new projects and old.")
    judgement = work.judge()
    assert judgement.passed, judgement.report()


def test_a_renamed_question_must_accept_what_the_old_one_did(work: Work) -> None:
    a_question_is_renamed(work)
    a_choice_is_removed(work)
    [finding] = work.found(questions.tightened)
    assert finding.where == "pipeline"
    assert finding.why.startswith("A project that answered 'none' to ci would be reset")


def test_a_question_without_use_may_keep_its_answer_unasked(work: Work) -> None:
    work.edit("copier.yml", "description:\n", "description:\n  ask: false\n")
    assert work.judge().passed


def test_a_new_question_may_decide_about_a_file_if_older_answers_do_too(work: Work) -> None:
    line = "{% if (colour | default('blue')) == 'red' %}compose.yaml{% endif %}"
    work.append("copier.yml", NEW_QUESTION)
    work.edit("copier.yml", "_exclude:\n", f'_exclude:\n  - "{line}"\n')
    assert not work.found(files.exclude_unknown_to_a_release)


def test_a_tail_stays_where_the_lines_above_it_change(work: Work) -> None:
    work.edit("template/.gitignore.jinja", "# --- yours ---", ".other_cache/\n\n# --- yours ---")
    assert not work.found(shared.mark_moved)


def test_what_a_function_keeps_to_itself_may_change(work: Work) -> None:
    work.edit("template/app/core/errors.py", "content: dict[str, JsonValue] =", "answer =")
    assert not work.found(code.member_gone)
    assert not work.found(code.name_gone)


def test_a_raised_bound_needs_an_entry_only(work: Work) -> None:
    work.edit("template/pyproject.toml.jinja", '"anyio>=4.16,<5"', '"anyio>=4.17,<6"')
    work.note("AnyIO 5.")
    assert work.judge().passed


# --- Against which release -----------------------------------------------------------------------


def test_the_section_of_the_version_in_the_making_counts(work: Work) -> None:
    a_file_of_ours_is_edited(work)
    work.note("A fix.", "[1.0.1] - 2026-12-01")
    assert not work.judge().passed
    work.edit("pyproject.toml", "1.0.0", "1.0.1")
    assert work.judge().passed


def test_an_entry_of_the_last_release_does_not_count(work: Work) -> None:
    a_file_of_ours_is_edited(work)
    assert not work.judge().passed
    assert work.judge().missing == [
        "has no entry under [Unreleased]: say what an updating project gets, and must do."
    ]


def test_a_release_is_judged_by_the_one_before_until_something_changes(work: Work) -> None:
    work.delete("template/app/core/middleware.py")
    work.release("2.0.0")
    assert "compared with release 1.0.0" in work.judge().compared
    assert [f.where for f in work.found(files.deleted)] == ["app/core/middleware.py"]


def test_every_release_counts_and_not_the_last_one_alone(work: Work) -> None:
    a_file_is_deleted_and_excluded(work)
    a_question_is_renamed(work)
    work.release("2.0.0")
    work.edit("copier.yml", "  - compose.yaml\n", "")
    work.edit("copier.yml", "  default: \"{{ ci | default('github') }}\"\n", "  default: github\n")
    assert [f.where for f in work.found(files.deleted)] == ["compose.yaml"]
    assert [f.where for f in work.found(questions.removed)] == ["ci"]


def test_an_older_release_can_be_named(work: Work) -> None:
    a_file_of_ours_is_edited(work)
    work.release("1.0.1")
    a_test_is_edited(work)
    assert "release 1.0.1" in work.judge().compared
    assert "release 1.0.0" in work.judge("1.0.0").compared
    with pytest.raises(NoHistoryError, match=r"no release 3\.0\.0 .*: 1\.0\.0, 1\.0\.1"):
        work.judge("3.0.0")


def test_a_release_is_the_commit_that_sets_the_version(work: Work) -> None:
    work.append("pyproject.toml", "# The version stays.\n")
    commit(work.folder, "No release")
    work.release("1.1.0")
    head = succeed("git", "rev-parse", "HEAD", cwd=work.folder).strip()
    found = releases(work.folder)
    assert [release.version for release in found] == ["1.0.0", "1.1.0"]
    assert found[-1].commit == head


def test_the_version_0_0_0_is_no_release(tmp_path: Path) -> None:
    succeed("git", "init", "--quiet", cwd=tmp_path)
    Work(tmp_path).release("0.0.0")
    assert releases(tmp_path) == []
    assert judge(tmp_path).passed
    assert "no release yet" in judge(tmp_path).compared


def test_a_shallow_clone_passes_and_says_so(work: Work, tmp_path: Path) -> None:
    a_test_is_edited(work)
    commit(work.folder, "After the release")
    clone = tmp_path / "clone"
    source = f"file://{work.folder}"
    succeed("git", "clone", "--quiet", "--depth=1", source, str(clone), cwd=tmp_path)
    assert judge(clone).passed
    assert "shallow clone" in judge(clone).compared


def test_a_tree_without_history_passes_and_says_so(work: Work) -> None:
    shutil.rmtree(work.folder / ".git")
    assert work.judge().passed
    assert "no history" in work.judge().compared


def test_a_tree_inside_another_repository_has_no_history(work: Work, tmp_path: Path) -> None:
    shutil.rmtree(work.folder / ".git")
    succeed("git", "init", "--quiet", cwd=tmp_path)
    assert work.judge().passed
    assert "not the root" in work.judge().compared


def test_what_no_release_may_have_is_found_without_history_too(work: Work) -> None:
    shutil.rmtree(work.folder / ".git")
    a_task_is_run(work)
    a_second_migration_is_shipped(work)
    assert not work.judge().passed
    assert {f.where for f in work.judge().findings} == {
        "_tasks",
        "migrations/versions/0002_more.py",
    }


# --- What Copier does, and the rules rely on -----------------------------------------------------

FIRST = """
_subdirectory: template
_envops: {undefined: jinja2.StrictUndefined}
name: {type: str, default: nobody}
"""
ANSWERS_FILE = "{{ _copier_conf.answers_file }}.jinja"


@dataclass(frozen=True)
class Small:
    """A template of one question, with two releases, and a project with edits."""

    folder: Path

    def release(self, version: str, document: str, *names: str) -> None:
        """Release a template with these files."""
        content = self.folder / "template"
        shutil.rmtree(content, ignore_errors=True)
        content.mkdir(parents=True)
        (self.folder / "copier.yml").write_text(document, "utf-8")
        (content / ANSWERS_FILE).write_text("{{ _copier_answers | to_nice_yaml }}\n", "utf-8")
        for name in names:
            (content / name).write_text("ours\n", "utf-8")
        commit(self.folder, version)
        succeed("git", "tag", version, cwd=self.folder)

    def start(self) -> Path:
        """Copy the first release, and edit every file."""
        project = self.folder.parent / "project"
        render(self.folder, project, {"name": "somebody"}, "1.0.0")
        for path in project.glob("*.txt"):
            path.write_text("theirs\n", "utf-8")
        succeed("git", "init", "--quiet", cwd=project)
        commit(project, "Start")
        return project


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """A small template with its first release."""
    (tmp_path / "small").mkdir()
    succeed("git", "init", "--quiet", cwd=tmp_path / "small")
    template = Small(tmp_path / "small")
    template.release("1.0.0", FIRST, "file.txt")
    return template


def update(project: Path) -> str:
    """Update to the second release, and return the recorded answers."""
    copier.run_update(
        project, vcs_ref="2.0.0", defaults=True, overwrite=True, quiet=True, unsafe=False
    )
    return (project / ".copier-answers.yml").read_text("utf-8")


def test_copier_deletes_an_edited_file_that_only_skip_if_exists_names(small: Small) -> None:
    project = small.start()
    small.release("2.0.0", f"{FIRST}_skip_if_exists: [file.txt]\n")
    update(project)
    assert not (project / "file.txt").exists()


@pytest.mark.parametrize("line", ["file.txt", UPDATE_ONLY.replace("FILE", "file.txt")])
def test_copier_keeps_an_edited_file_that_exclude_names(small: Small, line: str) -> None:
    project = small.start()
    small.release("2.0.0", f'{FIRST}_exclude: ["{line}"]\n')
    update(project)
    assert (project / "file.txt").read_text() == "theirs\n"


def test_copier_renders_the_new_exclude_with_the_old_answers(small: Small) -> None:
    project = small.start()
    line = "{% if colour == 'red' %}file.txt{% endif %}"
    small.release("2.0.0", f'{FIRST}{NEW_QUESTION}\n_exclude: ["{line}"]\n', "file.txt")
    # In a process of its own, because Copier leaves a directory open when it crashes.
    command = [sys.executable, "-m", "copier", "update", "--defaults", "--vcs-ref=2.0.0"]
    done = run(*command, cwd=project)
    assert done.returncode != 0
    assert "UndefinedError: 'colour' is undefined" in done.stderr


def test_copier_forgets_the_answer_of_a_question_that_becomes_secret(small: Small) -> None:
    project = small.start()
    small.release("2.0.0", FIRST.replace("nobody}", "nobody, secret: true}"))
    assert "somebody" not in update(project)


def test_copier_hands_an_answer_to_the_question_that_follows(small: Small) -> None:
    project = small.start()
    recipe = "title: {type: str, default: \"{{ name | default('nobody') }}\"}\n"
    small.release("2.0.0", FIRST.replace("name: {type: str, default: nobody}\n", recipe))
    assert "title: somebody" in update(project)


def test_copier_keeps_the_answer_of_a_question_that_is_no_longer_asked(small: Small) -> None:
    project = small.start()
    small.release("2.0.0", FIRST.replace("nobody}", "nobody, ask: false}"))
    assert "name: somebody" in update(project)


def test_copier_discards_the_answer_of_a_question_whose_when_fails(small: Small) -> None:
    project = small.start()
    small.release("2.0.0", FIRST.replace("nobody}", "nobody, when: false}"))
    assert "somebody" not in update(project)


# --- This repository -----------------------------------------------------------------------------


def test_the_work_tree_has_no_forbidden_change_since_the_last_release() -> None:
    # What the changelog lacks, `poe guard` says: a change may be tested before it is described.
    judgement = judge(REPOSITORY)
    forbidden = [f for f in judgement.findings if f.kind is Kind.FORBIDDEN]
    assert not forbidden, f"\n{judgement.report()}"


def test_the_command_prints_the_verdict() -> None:
    done = run(sys.executable, "-m", "scripts.guard", cwd=REPOSITORY)
    assert done.returncode == (0 if judge(REPOSITORY).passed else 1)
    assert done.stdout.startswith("guard: ")
    assert done.stderr == ""


def test_the_command_knows_no_release_that_never_was() -> None:
    done = run(sys.executable, "-m", "scripts.guard", "--since", "0.0.0", cwd=REPOSITORY)
    if "no history" not in judge(REPOSITORY).compared:
        assert done.returncode == 2
        assert done.stderr.startswith("guard: there is no release 0.0.0")
