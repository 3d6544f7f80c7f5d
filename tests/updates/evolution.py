"""What the template could release next, derived from the work tree.

Each step changes a clone of the template the way that leaves projects whole, and fails loudly where
the place that it changes is gone: then the step is to be written anew.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.answers import Answers


@dataclass(frozen=True)
class Step:
    """One release of the chain.

    ``arrived`` says for a project whether the change has reached it; a file that the step leaves
    behind in projects, and does not give to new ones, is in ``left``; one that becomes the
    team's is in ``released``. Where it ``brings_table``, the team needs a migration.
    """

    version: str
    name: str
    apply: Callable[[Path], None]
    arrived: Callable[[Path], bool]
    left: frozenset[str] = frozenset()
    released: frozenset[str] = frozenset()
    brings_table: bool = False


def _has(path: str, text: str) -> Callable[[Path], bool]:
    return lambda folder: text in (folder / path).read_text("utf-8")


def edit(path: Path, before: str, after: str, count: int = 1) -> None:
    """Replace ``before``, which must occur ``count`` times."""
    text = path.read_text("utf-8")
    assert text.count(before) == count, f"{path} has {text.count(before)} of {before!r}"
    path.write_text(text.replace(before, after), "utf-8")


def _exclude(clone: Path, pattern: str) -> None:
    edit(clone / "copier.yml", "\n  - __pycache__\n", f'\n  - "{pattern}"\n  - __pycache__\n')


def _ask(clone: Path, question: str) -> None:
    heading = "# --- How Copier uses the template "
    edit(clone / "copier.yml", heading, f"{question}\n{heading}")


# --- A security fix in the token code -------------------------------------------------------------

_ISSUED_AT_TEST = '''\
"""A token from the future is none of the provider's."""

import time

import httpx2
import pytest
from fastapi import FastAPI

from app.core.errors import add_exception_handlers
from app.utils.sso.introspection import CurrentToken
from template_tools.provider import Faults, RunningProvider
from template_tools.pytest_plugin import Bearer


async def read_anyone(_token: CurrentToken) -> None:
    """Answer whoever has a token."""


@pytest.mark.usefixtures("client")
async def test_a_token_that_is_issued_in_the_future_is_refused(
    application: FastAPI, provider: RunningProvider, bearer: Bearer
) -> None:
    app = FastAPI()
    app.state = application.state
    add_exception_handlers(app)
    app.add_api_route("/anyone", read_anyone)
    claims = {"iat": int(time.time()) + 3600}
    provider.faults = Faults.model_validate({"override_claims": claims})
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as caller:
        assert (await caller.get("/anyone", headers=bearer())).status_code == 401
'''
SECURITY_TEST = "tests/contract/test_issued_at.py"
# Projects of the first six releases had it at another place.
FIXED = "app/utils/sso/resource_server/token_validation.py"


def _fix_security(clone: Path) -> None:
    edit(
        clone / "template" / FIXED,
        "        if data.nbf is not None and",
        "        if data.iat is not None and data.iat > now + LEEWAY_SECONDS:\n"
        '            raise TokenNotInForce("The token was issued ahead of time.")\n'
        "        if data.nbf is not None and",
    )
    (clone / "template" / SECURITY_TEST).write_text(_ISSUED_AT_TEST, "utf-8")


def has_security_fix(folder: Path) -> bool:
    """Whether the fix of the first step is in a project."""
    return (folder / FIXED).exists() and _has(FIXED, "issued ahead of time")(folder)


# --- Questions ------------------------------------------------------------------------------------


def _ask_new_question(clone: Path) -> None:
    _ask(
        clone,
        "service_owner:\n  type: str\n  help: Who answers for it.\n  default: nobody\n"
        "  validator: >-\n    {% if not service_owner -%}\n    Write a name\n    {%- endif %}\n",
    )
    title = "title = {{ project_name | to_json(ensure_ascii=False) }}\n"
    edit(
        clone / "template/pyproject.toml.jinja",
        title,
        f"{title}owner = {{{{ service_owner | to_json(ensure_ascii=False) }}}}\n",
    )


def _rename_question(clone: Path) -> None:
    copier_yml = clone / "copier.yml"
    text = copier_yml.read_text("utf-8")
    block = re.search(r"^description:\n(?:  .*\n|\n(?=  ))+", text, re.MULTILINE)
    assert block is not None, "copier.yml no longer asks for description"
    default = re.search(r'^  default: "\{\{ (.*) \}\}"$', block[0], re.MULTILINE)
    assert default is not None
    renamed = re.sub(r"\bdescription\b", "summary", block[0]).replace(
        default[0], f'  default: "{{{{ description | default({default[1]}) }}}}"'
    )
    copier_yml.write_text(text.replace(block[0], renamed), "utf-8")
    used = 0
    for path in sorted((clone / "template").rglob("*.jinja")):
        text = path.read_text("utf-8")
        changed = re.sub(r"\{\{ description\b", "{{ summary", text)
        used += changed != text
        path.write_text(changed, "utf-8")
    assert used, "no file uses the answer to description"


def renamed_answers(answers: Answers) -> Answers:
    """Return the answers by the names that they have at the end of the chain."""
    names = {"description": "summary"}
    return {names.get(name, name): answer for name, answer in answers.items()}


# --- A renamed setting, whose old name is still read ----------------------------------------------

_RENAMED_SETTING_TEST = '''\
"""A setting that has a new name is still read by its old one."""

import pytest

from app.core.settings import load_settings
from app.settings import Settings


@pytest.mark.parametrize("name", ["MAX_BODY_SIZE", "REQUEST_BODY_LIMIT"])
def test_the_limit_of_a_body_is_read_by_both_names(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "17")
    settings = load_settings(Settings)
    assert (settings.request_body_limit, settings.max_body_size) == (17, 17)
'''


def _rename_setting(clone: Path) -> None:
    settings = clone / "template/app/core/settings.py"
    edit(
        settings,
        "    max_body_size: int = Field(default=1_000_000, ge=0)\n"
        '    """The largest body of a request, in bytes."""\n',
        "    request_body_limit: int = Field(\n"
        "        default=1_000_000,\n"
        "        ge=0,\n"
        "        # The second is its former name.\n"
        '        validation_alias=AliasChoices("request_body_limit", "max_body_size"),\n'
        "    )\n"
        '    """The largest body of a request, in bytes."""\n\n'
        "    @property\n"
        "    def max_body_size(self) -> int:\n"
        '        """The former name of ``request_body_limit``."""\n'
        "        return self.request_body_limit\n",
    )
    edit(settings, "    AfterValidator,\n", "    AfterValidator,\n    AliasChoices,\n")
    edit(
        clone / "template/app/main.py",
        "max_body_size=settings.max_body_size",
        "max_body_size=settings.request_body_limit",
    )
    edit(clone / "template/.env.example.jinja", "# MAX_BODY_SIZE=", "# REQUEST_BODY_LIMIT=")
    test = clone / "template/tests/contract/test_renamed_setting.py"
    test.write_text(_RENAMED_SETTING_TEST, "utf-8")


# --- A file that becomes the team's ---------------------------------------------------------------


def _release_health(clone: Path) -> None:
    _exclude(clone, "{% if _copier_operation == 'update' %}app/health.py{% endif %}")
    seeds = "\n_skip_if_exists:\n"
    edit(clone / "copier.yml", seeds, f"{seeds}  - app/health.py\n")


# --- A new middleware -----------------------------------------------------------------------------

_MIDDLEWARE = '''\
class ServiceName:
    """Say which service has answered, for callers behind a gateway of many."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self.app = app
        self.name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""

        async def send_with_name(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Service"] = self.name
            await send(message)

        await self.app(scope, receive, send_with_name)


'''
_MIDDLEWARE_TEST = '''\
"""The service says its name."""

import httpx2

from app.core.project import NAME


async def test_every_answer_names_the_service(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/livez")).headers["x-service"] == NAME
'''


def _add_middleware(clone: Path) -> None:
    template = clone / "template"
    middleware = template / "app/core/middleware.py"
    headers = "from starlette.datastructures import Headers"
    edit(middleware, f"{headers}\n", f"{headers}, MutableHeaders\n")
    edit(middleware, "class ErrorBoundary:\n", f"{_MIDDLEWARE}class ErrorBoundary:\n")
    main = template / "app/main.py"
    edit(
        main,
        "import BodyLimit, ErrorBoundary, SecurityHeaders, WholePath\n",
        "import BodyLimit, ErrorBoundary, SecurityHeaders, ServiceName, WholePath\n",
    )
    edit(main, "import DESCRIPTION, TITLE, VERSION\n", "import DESCRIPTION, NAME, TITLE, VERSION\n")
    outermost = "    app.add_middleware(SecurityHeaders)\n"
    edit(main, outermost, f"{outermost}    app.add_middleware(ServiceName, name=NAME)\n")
    (template / "tests/contract/test_service_name.py").write_text(_MIDDLEWARE_TEST, "utf-8")
    # The team has deleted the one and renamed the other; neither may come back.
    for path in ("tests/contract/test_description.py", "tests/contract/test_migrations.py"):
        text = (template / path).read_text("utf-8")
        (template / path).write_text(f"{text}\n\n# A case for the new middleware.\n", "utf-8")


# --- A table, which needs a migration of the team's own -------------------------------------------

_TABLE = '''\
"""What administrators did, and when."""

from sqlmodel import Field

from app.database.base import TableBase


class AuditEntry(TableBase, table=True):
    """One deed of an administrator."""

    __tablename__ = "core_audit_entry"

    deed: str = Field(max_length=255)
    subject: str | None = Field(default=None, max_length=255)
'''
# New projects begin with it; the migrations of the others are their own.
_TABLE_MIGRATION = """\
    op.create_table(
        "core_audit_entry",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("deed", sa.String(length=255), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_core_audit_entry")),
    )
"""


def _add_table(clone: Path) -> None:
    template = clone / "template"
    (template / "app/database/model/core_audit.py").write_text(_TABLE, "utf-8")
    initial = template / "migrations/versions/0001_initial.py.jinja"
    begin = "    op.create_table(\n"
    edit(initial, begin, _TABLE_MIGRATION + begin)
    drop = '    op.drop_table("user_account")\n'
    edit(initial, drop, f'{drop}    op.drop_table("core_audit_entry")\n')


# --- A bumped dependency, and a new one -----------------------------------------------------------


def _bump_dependency(clone: Path) -> None:
    pins = (clone / "template/requirements.txt.jinja").read_text("utf-8")
    pinned = dict(re.findall(r"^([a-z][a-z0-9-]*)(?:\[\w+\])?==([^ ;\\]+)", pins, re.MULTILINE))
    pyproject = clone / "template/pyproject.toml.jinja"
    text = pyproject.read_text("utf-8")
    assert re.search(r'^    "anyio>=[^,"]+,', text, re.MULTILINE), "anyio is not a dependency"
    text = re.sub(
        r'^    "anyio>=[^,"]+,',
        f'    "typing-extensions>={pinned["typing-extensions"]}",\n'
        f'    "anyio>={pinned["anyio"]},!=4.99.99,',
        text,
        flags=re.MULTILINE,
    )
    pyproject.write_text(text, "utf-8")


# --- A dropped feature: the file stays with those who have it -------------------------------------


def _drop_compose(clone: Path) -> None:
    (clone / "template/compose.yaml").unlink()
    _exclude(clone, "compose.yaml")


# --- A conditional file, and another condition for it ---------------------------------------------


def _add_conditional_file(clone: Path) -> None:
    (clone / "template/.editorconfig").write_text("root = true\n", "utf-8")
    _exclude(clone, "{% if ci != 'github' %}.editorconfig{% endif %}")


def _move_conditional_file(clone: Path) -> None:
    edit(
        clone / "copier.yml",
        "{% if ci != 'github' %}.editorconfig{% endif %}",
        "{% if ci != 'gitlab' %}.editorconfig{% endif %}",
    )


# --- A line of ours in every file that is shared with the team ------------------------------------


def _touch_shared_files(clone: Path) -> None:
    template = clone / "template"
    edit(
        template / "ruff.toml", '    "W",\n', '    "W",\n    "YTT",   # ours: versions of Python\n'
    )
    edit(
        template / "ruff.toml",
        '"app/hooks.py" =',
        '"app/nothing.py" = ["E501"]\n"app/hooks.py" =',
    )
    edit(template / ".gitignore.jinja", "*.rej\n", "*.rej\n.core-cache/\n")
    example = template / ".env.example.jinja"
    edit(example, "# DATABASE_POOL_SIZE=", "# CORE_NOTHING=\n# DATABASE_POOL_SIZE=")
    edit(template / "Dockerfile.jinja", "EXPOSE 8000\n", 'LABEL core="ours"\nEXPOSE 8000\n')
    edit(
        template / ".github/workflows/ci.yml",
        "      - run: uv run poe check\n",
        "      - run: uv run poe check\n      - run: uv run python -m compileall -q app\n",
    )
    edit(
        template / ".gitlab-ci.yml.jinja",
        "    - uv run poe test --cov\n",
        "    - uv run poe test --cov\n    - uv run python -m compileall -q app\n",
    )
    pyproject = template / "pyproject.toml.jinja"
    edit(pyproject, "show_missing = true\n", "show_missing = true\nprecision = 1\n")
    edit(
        template / "template_tools/tasks.toml.jinja",
        "[groups.3-checks.tasks.format]\n",
        '[tasks.core-nothing]\nhelp = "Do nothing"\ncmd = "python -c pass"\n\n'
        "[groups.3-checks.tasks.format]\n",
    )
    # Released to the team four steps ago: it must not reach projects any more.
    edit(template / "app/health.py", "logger = ", "# Not for projects that exist.\nlogger = ")
    # Seeds never do.
    for seed in ("README.md.jinja", "app/hooks.py", "app/settings.py", "tests/conftest.py"):
        text = (template / seed).read_text("utf-8")
        (template / seed).write_text(f"{text}\n# Not for projects that exist.\n", "utf-8")


def _shared_files_touched(folder: Path) -> bool:
    probes = {
        "ruff.toml": "YTT",
        ".gitignore": ".core-cache/",
        ".env.example": "CORE_NOTHING",
        "Dockerfile": "LABEL core",
        "pyproject.toml": "precision = 1",
        "template_tools/tasks.toml": "core-nothing",
    }
    return all(_has(path, text)(folder) for path, text in probes.items())


STEPS = (
    Step("999.1.0", "a security fix", _fix_security, has_security_fix),
    Step(
        "999.2.0",
        "a new question",
        _ask_new_question,
        _has(".copier-answers.yml", "service_owner: nobody"),
    ),
    Step(
        "999.3.0",
        "a renamed question",
        _rename_question,
        _has(".copier-answers.yml", "\nsummary: "),
    ),
    Step(
        "999.4.0",
        "a renamed setting",
        _rename_setting,
        _has("app/core/settings.py", "request_body_limit"),
    ),
    Step(
        "999.5.0",
        "a file released to the team",
        _release_health,
        _has("app/health.py", "def read_health"),
        released=frozenset({"app/health.py"}),
    ),
    Step(
        "999.6.0",
        "a new middleware",
        _add_middleware,
        _has("app/main.py", "ServiceName, name=NAME"),
    ),
    Step(
        "999.7.0",
        "a new table",
        _add_table,
        _has("app/database/model/core_audit.py", "core_audit_entry"),
        brings_table=True,
    ),
    Step("999.8.0", "a bumped dependency", _bump_dependency, _has("pyproject.toml", ",!=4.99.99,")),
    # Who has the file keeps it.
    Step(
        "999.9.0",
        "a dropped feature",
        _drop_compose,
        lambda _folder: True,
        left=frozenset({"compose.yaml"}),
    ),
    Step("999.10.0", "a conditional file", _add_conditional_file, lambda _folder: True),
    Step(
        "999.11.0",
        "another condition for it",
        _move_conditional_file,
        lambda _folder: True,
        left=frozenset({".editorconfig"}),
    ),
    Step("999.12.0", "a line in every shared file", _touch_shared_files, _shared_files_touched),
)
LAST = STEPS[-1].version
