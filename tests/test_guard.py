"""The guard says what a change of the template means for projects, and stops what breaks them."""

import re
import shutil
import sys
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
from scripts.guard.rules import Kind, Rule
from scripts.releases import releases
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

    def source(self, where: str, text: str) -> str:
        """Return the file that has a text: the one of that name, or copier.yml."""
        paths = [f"template/{where}", f"template/{where}.jinja", "copier.yml"]
        found = [path for path in paths if (self.folder / path).is_file()]
        return next(path for path in found if text in (self.folder / path).read_text("utf-8"))

    def append(self, path: str, text: str) -> None:
        """Add a text to the end of a file, which is made if it is missing."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(text)

    def delete(self, path: str) -> None:
        """Delete a file."""
        (self.folder / path).unlink()

    def note(self, entry: str) -> None:
        """Write an entry into a new section of the changelog."""
        self.edit("CHANGELOG.md", "## [1.0.0]", f"## [Unreleased]\n\n- {entry}\n\n## [1.0.0]")

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

    def judge(self) -> Judgement:
        """Ask the guard."""
        return judge(self.folder)

    def found(self, rule: Rule) -> list[str]:
        """Return where one rule finds something."""
        start = rule.sentence.partition("{what}")[0]
        return [it.where for it in self.judge().findings if it.why.startswith(start)]


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

SETTINGS, BASE, ERRORS = "app/core/settings.py", "app/database/base.py", "app/core/errors.py"
FIXTURES = "template_tools/pytest_plugin.py"
HANDED_OVER = f'_exclude:\n  - "{UPDATE_ONLY.replace("FILE", "compose.yaml")}"\n'
USER_KEPT = f'  - "{UPDATE_ONLY.replace("FILE", "app/database/model/user.py")}"\n'
# The choice of no CI, whose name is worded in two languages.
NOBODY = "\"{{ 'Ninguna' if language == 'es' else 'Nobody' }}\""
RED_ONLY = f"{NEW_QUESTION}_exclude:\n  - \"{{% if colour == 'red' %}}compose.yaml{{% endif %}}\"\n"

# A rule, where it finds what, and the text of that file, or of copier.yml, that is replaced.
type Case = tuple[Rule, str, str, str, str]
CASES: list[Case] = [
    (files.handed_over_unprotected, "compose.yaml", "", "_exclude:\n", HANDED_OVER),
    (files.taken_back, "app/hooks.py", "_skip_if_exists", "  - app/hooks.py\n", ""),
    (files.taken_back, "app/database/model/user.py", "_exclude", USER_KEPT, ""),
    (
        files.exclude_unknown_to_a_release,
        "_exclude",
        "in those of 1.0.0 'colour' is undefined",
        "_exclude:\n",
        RED_ONLY,
    ),
    (
        schema.migration_edited,
        "migrations/versions/0001_initial.py",
        "",
        "import sqlalchemy as sa\n",
        "import sqlalchemy as sa  # A comment is too much.\n",
    ),
    (schema.column_changed, BASE, "version", 'text("1")', 'text("0")'),
    (schema.column_changed, BASE, "created_at", "    created_at: datetime", "    born: datetime"),
    (
        schema.column_changed,
        BASE,
        "naming_convention",
        '"pk_%(table_name)s"',
        '"%(table_name)s_pk"',
    ),
    (
        schema.table_added,
        BASE,
        "TableBase.note",
        "    version: int",
        "    note: str | None = None\n    version: int",
    ),
    (
        schema.table_added,
        "app/health.py",
        "Message",
        "router = ",
        "class Message(TableBase, table=True):\n    x: int\n\n\nrouter = ",
    ),
    (
        questions.asks_for_trust,
        "_tasks",
        "",
        "_subdirectory:",
        '_tasks: ["uv sync"]\n_subdirectory:',
    ),
    (questions.without_default, "ci", "", "  default: github\n", ""),
    (questions.tightened, "ci", "'none'", f"    {NOBODY}: none\n", ""),
    (questions.tightened, "description", f"'{'a' * 50}... of length 200'", "{1,200}", "{1,199}"),
    (
        questions.discards,
        "sso_issuer",
        "",
        "sso_issuer:\n",
        "sso_issuer:\n  when: \"{{ ci != 'none' }}\"\n",
    ),
    (questions.secret_told, "sso_client_secret", "", "  secret: true\n", ""),
    (questions.hushed, "sso_issuer", "", "sso_issuer:\n", "sso_issuer:\n  secret: true\n"),
    (questions.older_copier, "_min_copier_version", "", '"9.19.0"', '"9.0.0"'),
    (questions.newer_copier, "_min_copier_version", "", '"9.19.0"', '"9.99.0"'),
    (
        code.asks_for_a_new_name,
        "app/main.py",
        "app.hooks.on_error",
        "hooks.configure(app)",
        "hooks.on_error(app)",
    ),
    (
        code.asks_for_a_new_name,
        "app/health.py",
        "app.settings.get_settings",
        "router = ",
        "from app.settings import get_settings\n\nrouter = ",
    ),
    (
        code.name_gone,
        "app/utils/sso/introspection.py",
        "CurrentToken",
        "CurrentToken = ",
        "Token = ",
    ),
    (code.name_gone, ERRORS, "GatewayTimeout", "class GatewayTimeout(", "class TimedOut("),
    (code.name_gone, FIXTURES, "bearer", "def bearer(", "def caller("),
    (code.name_gone, "app/database/queries.py", "find_row", "def find_row", "def get_row"),
    (code.fixture_gone, FIXTURES, "bearer", "@pytest.fixture\ndef bearer(", "def bearer("),
    (code.member_gone, ERRORS, "Problem.response", "def response(self)", "def answer(self)"),
    (
        code.member_gone,
        ERRORS,
        "Problem.members",
        "self.members = members",
        "self.extras = members",
    ),
    (
        code.member_gone,
        SETTINGS,
        "CoreSettings.max_body_size",
        "    max_body_size: int",
        "    body_limit: int",
    ),
    (
        code.variable_gone,
        SETTINGS,
        "MAX_BODY_SIZE",
        "    max_body_size: int",
        "    body_limit: int",
    ),
    (
        code.variable_required,
        SETTINGS,
        "MAX_BODY_SIZE",
        "Field(default=1_000_000, ge=0",
        "Field(ge=0",
    ),
    (
        code.variable_required,
        SETTINGS,
        "TENANT",
        "    max_body_size: int",
        "    tenant: str\n    max_body_size: int",
    ),
    (
        shared.mark_moved,
        ".gitignore",
        "# --- yours ---",
        "# --- yours ---\n",
        "# --- yours ---\n.other_cache/\n",
    ),
    (shared.mark_moved, "ruff.toml", "# Yours:", "    # Yours:\n", ""),
    (
        shared.dependencies_without_end,
        "pyproject.toml",
        "",
        "    # Yours: uv add appends below.\n",
        "",
    ),
    (shared.last_line_changed, "pyproject.toml", "", '["devtools"]', '["devtools", "tools"]'),
    (shared.unbounded, "pyproject.toml", "anyio", '"anyio>=4.16,<5"', '"anyio>=4.16"'),
    (shared.dependency_dropped, "pyproject.toml", "anyio", '    "anyio>=4.16,<5",\n', ""),
]


def assert_found(work: Work, rule: Rule, where: str, what: str = "") -> None:
    """Check that a rule has found what it must, and that its sentence is printed."""
    judgement = work.judge()
    why = rule.sentence.replace("{what}", what)
    assert [it.kind for it in judgement.findings if (it.where, it.why) == (where, why)] == [
        rule.kind
    ], judgement.report()
    assert not judgement.passed
    assert why in judgement.report()
    assert judgement.report().endswith("guard: FAILED.")


@pytest.mark.parametrize(
    "case", [pytest.param(it, id=f"{it[0].find.__name__}-{it[1]}-{it[2]}"[:60]) for it in CASES]
)
def test_a_change_is_found_and_its_sentence_says_what_to_do(work: Work, case: Case) -> None:
    rule, where, what, before, after = case
    work.edit(work.source(where, before), before, after)
    work.note("Something else.")
    if rule.kind is Kind.CHANGELOG:
        must_say = rule.must_say.replace("{what}", what)
        said = f'does not say "{must_say}", because of {where}.'
        assert said in work.judge().missing
        work.edit("CHANGELOG.md", "Something else.", f"Something about {must_say.upper()}.")
        assert said not in work.judge().missing
    else:
        assert_found(work, rule, where, what)


def test_a_shared_file_is_not_deleted(work: Work) -> None:
    work.delete("template/compose.yaml")
    assert_found(work, files.deleted, "compose.yaml", "compose.yaml")
    work.edit("copier.yml", "_exclude:\n", "_exclude:\n  - compose.yaml\n")
    work.note("`compose.yaml` is yours now.")
    assert work.judge().passed


def test_a_seed_that_only_skip_if_exists_names_is_not_deleted(work: Work) -> None:
    work.delete("template/README.md.jinja")
    assert_found(work, files.deleted, "README.md", "README.md")


def test_a_second_migration_is_not_shipped(work: Work) -> None:
    path = "migrations/versions/0002_more.py"
    work.append(f"template/{path}", '"""More."""\n')
    assert_found(work, schema.second_migration, path)


def test_the_migration_may_follow_a_model_under_the_same_revision(work: Work) -> None:
    work.edit(
        "template/app/database/base.py", "    version: int", "    more: int\n    version: int"
    )
    migration = "template/migrations/versions/0001_initial.py.jinja"
    work.edit(migration, "import sqlalchemy as sa\n", "import sqlalchemy as sa\n\nMORE = 1\n")
    assert work.found(schema.migration_edited) == []
    work.edit(migration, 'revision = "', 'revision = "a')
    assert work.found(schema.migration_edited) == ["migrations/versions/0001_initial.py"]


def test_the_dependencies_are_not_sorted(work: Work) -> None:
    path = work.folder / "template/pyproject.toml.jinja"
    text = path.read_text("utf-8")
    start = text.index("dependencies = [\n") + len("dependencies = [\n")
    work.edit(
        "template/pyproject.toml.jinja",
        text[start : text.index("    # Yours: uv add appends")],
        '    "anyio>=4,<5",\n    "fastapi>=0.165,<1",\n',
    )
    assert_found(work, shared.sorted_dependencies, "pyproject.toml")


# --- A file of ours that goes ---------------------------------------------------------------------

COMMAND = "the command:\n\n  ```console\n  git log --stat -- app/core tests/core\n  ```\n"


def test_a_file_of_ours_goes_where_teams_are_told_and_shown_their_edits(work: Work) -> None:
    work.delete("template/app/core/middleware.py")
    where = "app/core/middleware.py"
    assert_found(work, files.deleted_in_silence, where)
    work.note("`app/core/middleware.py` is gone.")
    assert_found(work, files.deleted_in_silence, where)
    work.edit("CHANGELOG.md", "is gone.", f"is gone; {COMMAND}")
    assert work.judge().passed, work.judge().report()


def test_a_command_alone_does_not_tell_them(work: Work) -> None:
    work.delete("template/app/core/middleware.py")
    work.note(f"Something went; {COMMAND}")
    assert_found(work, files.deleted_in_silence, "app/core/middleware.py")


def test_what_teams_import_from_a_file_that_goes_is_found_where_it_has_moved(work: Work) -> None:
    old, new = "app/core/etag.py", "app/core/conditional.py"
    (work.folder / "template" / old).rename(work.folder / "template" / new)
    work.note(f"`app/core/` has lost a file; {COMMAND}")
    assert set(work.found(code.name_gone)) == {old}
    work.edit(
        "copier.yml",
        "    - {old: devtools/__init__.py,",
        f"    - {{old: {old}, new: app.core.conditional}}\n    - {{old: devtools/__init__.py,",
    )
    assert work.judge().passed, work.judge().report()
    work.edit(f"template/{new}", "def set_etag(", "def put_etag(")
    assert work.found(code.name_gone) == [old]


def test_each_rule_has_a_case_and_a_sentence() -> None:
    text = Path(__file__).read_text("utf-8")
    for rule in RULES:
        assert re.search(rf"\.{rule.find.__name__}\b", text), rule.find.__name__
        assert rule.find.__doc__
        assert rule.sentence.endswith(".")
        assert ". " not in rule.sentence


def test_the_names_of_decision_0001_are_the_ones_that_are_watched() -> None:
    decision = (REPOSITORY / "docs/decisions/0001-layout-and-ownership.md").read_text("utf-8")
    [theirs] = re.findall(r"through four fixed names only: (.*?)\. ", decision)
    assert {tuple(n.rsplit(".", 1)) for n in re.findall(r"`(.*?)`", theirs)} == code.FROM_THEM
    [ours] = re.findall(r"names for the template's code are as fixed: (.*), the classes", decision)
    watched = {name for names in code.FROM_US.values() for name in names}
    assert {*re.findall(r"`(.*?)`", ours)} == watched


# --- What is right passes ------------------------------------------------------------------------


def rename_a_question(work: Work) -> None:
    work.edit("copier.yml", "\nci:\n", "\npipeline:\n")
    work.edit("copier.yml", "  default: github\n", "  default: \"{{ ci | default('github') }}\"\n")
    for value in ("!= 'github'", "!= 'gitlab'", "== 'none'"):
        work.edit("copier.yml", f"{{% if ci {value}", f"{{% if pipeline | default(ci) {value}")
    work.edit("copier.yml", "{{ ci != 'none' }}", "{{ pipeline != 'none' }}")
    work.note("ci is called pipeline.")


def test_no_change_passes(work: Work) -> None:
    judgement = work.judge()
    assert judgement.findings == []
    assert judgement.report().endswith("guard: passed.")
    assert "compared with release 1.0.0" in judgement.compared


def test_a_change_needs_an_entry(work: Work) -> None:
    work.append("template/app/core/errors.py", "_NEW = 1\n")
    assert work.judge().missing == ["has no entry: say what an updating project gets, and must do."]
    work.note("An error is told better.")
    assert work.judge().passed


def test_a_name_that_moves_may_be_imported_from_its_old_place(work: Work) -> None:
    path = work.folder / "template/app/utils/sso/introspection.py"
    new = work.folder / "template/app/utils/sso/dependency.py"
    new.write_text(path.read_text("utf-8"), "utf-8")
    path.write_text("from app.utils.sso.dependency import CurrentToken, introspect_token\n")
    assert work.found(code.name_gone) == []


def test_a_question_that_is_removed_loses_answers(work: Work) -> None:
    work.drop_block("local_passwords")
    assert_found(work, questions.removed, "local_passwords", "local_passwords")


def test_a_renamed_question_may_decide_about_a_file(work: Work) -> None:
    rename_a_question(work)
    assert work.judge().passed, work.judge().report()


def test_a_renamed_question_must_accept_what_the_old_one_did(work: Work) -> None:
    rename_a_question(work)
    work.edit("copier.yml", f"    {NOBODY}: none\n", "")
    assert_found(work, questions.tightened, "pipeline", "'none' to ci")


def test_a_question_without_use_may_keep_its_answer_unasked(work: Work) -> None:
    work.edit("copier.yml", "\ndescription:\n", "\ndescription:\n  ask: false\n")
    work.note("It is not asked any more.")
    assert work.judge().passed


def test_a_new_question_may_decide_about_a_file_if_older_answers_do_too(work: Work) -> None:
    work.edit(
        "copier.yml", "_exclude:\n", RED_ONLY.replace("if colour", "if (colour | default('blue'))")
    )
    assert work.found(files.exclude_unknown_to_a_release) == []


def test_a_tail_stays_where_the_lines_above_it_change(work: Work) -> None:
    work.edit("template/.gitignore.jinja", "# --- yours ---", ".other_cache/\n\n# --- yours ---")
    assert work.found(shared.mark_moved) == []


# --- Against which release -----------------------------------------------------------------------


def test_a_release_is_judged_by_the_one_before_until_something_changes(work: Work) -> None:
    work.delete("template/compose.yaml")
    work.edit("CHANGELOG.md", "## [1.0.0]", "## [2.0.0] - 2027-01-01\n\n- More.\n\n## [1.0.0]")
    work.release("2.0.0")
    assert "compared with release 1.0.0" in work.judge().compared
    assert work.found(files.deleted) == ["compose.yaml"]
    assert work.judge().missing == []


def test_every_release_counts_and_not_the_last_one_alone(work: Work) -> None:
    work.delete("template/compose.yaml")
    work.edit("copier.yml", "_exclude:\n", "_exclude:\n  - compose.yaml\n")
    rename_a_question(work)
    work.release("2.0.0")
    work.edit("copier.yml", "  - compose.yaml\n", "")
    work.edit("copier.yml", "  default: \"{{ ci | default('github') }}\"\n", "  default: github\n")
    assert work.found(files.deleted) == ["compose.yaml"]
    assert work.found(questions.removed) == ["ci"]


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
    judgement = judge(tmp_path)
    assert judgement.passed
    assert "no release yet" in judgement.compared


def test_a_shallow_clone_passes_and_says_so(work: Work, tmp_path: Path) -> None:
    work.append("template/app/core/errors.py", "_NEW = 1\n")
    commit(work.folder, "After the release")
    clone = tmp_path / "clone"
    source = f"file://{work.folder}"
    succeed("git", "clone", "--quiet", "--depth=1", source, str(clone), cwd=tmp_path)
    judgement = judge(clone)
    assert judgement.passed
    assert "shallow clone" in judgement.compared


def test_without_history_only_what_no_release_may_have_is_found(work: Work) -> None:
    shutil.rmtree(work.folder / ".git")
    work.delete("template/compose.yaml")
    judgement = work.judge()
    assert judgement.passed
    assert "no history" in judgement.compared
    work.append("copier.yml", '\n_tasks: ["uv sync"]\n')
    judgement = work.judge()
    assert not judgement.passed
    assert [it.where for it in judgement.findings] == ["_tasks"]


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
