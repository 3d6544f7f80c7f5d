"""The documentation names every question, and what it says can be done is done."""

import ast
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.questions import tables, with_table
from scripts.reference import DESCRIBE, DESCRIPTIONS, Described, pages, with_part
from tests.answers import DEFAULTS, Answers
from tests.projects import REPOSITORY, TEMPLATE, Project, Projects, output, succeed, tracked_files
from tests.test_copier_yml import QUESTIONS

_SSO = TEMPLATE / "app/utils/sso"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))


def text(name: str) -> str:
    """Return a document, or skip the test while nobody has written it."""
    path = REPOSITORY / name
    if not path.exists():
        pytest.skip(f"{name} is not written yet")
    return path.read_text("utf-8")


@pytest.mark.parametrize("page", ["README.md", "docs/questions.md"])
def test_the_table_of_questions_is_the_one_that_copier_yml_makes(page: str) -> None:
    table = tables(text("copier.yml"))[page]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [*QUESTIONS]
    assert text(page) == with_table(text(page), table), "run: uv run poe questions"


@pytest.fixture(scope="module")
def described(projects: Projects) -> Described:
    """What a new project says about itself."""
    environment = projects.environment()
    python = Path(environment["UV_PROJECT_ENVIRONMENT"], "bin", "python")
    folder = projects.rendered(DEFAULTS)
    said: Described = json.loads(succeed(python, DESCRIBE, cwd=folder, env=environment))
    return said


@pytest.mark.parametrize(
    "page", ["docs/settings.md", "docs/routes.md", "docs/commands.md", "docs/example.md"]
)
def test_what_follows_from_the_code_is_what_a_new_project_has(
    page: str, projects: Projects, described: Described
) -> None:
    part = pages(projects.rendered(DEFAULTS), described)[page]
    assert text(page) == with_part(text(page), part), "run: uv run poe reference"


def test_a_setting_is_described_once_and_is_in_the_example(described: Described) -> None:
    """What the code describes, its page must not describe again."""
    settings = described["settings"]
    assert {
        name
        for group in settings.values()
        for name, setting in group.items()
        if not setting["description"] and name != "environment"
    } == {*DESCRIPTIONS}
    example = text("template/.env.example.jinja")
    for group in settings.keys() - {"Settings"}:
        for name in settings[group]:
            assert re.search(rf"^(?:# )?{name.upper()}=", example, re.MULTILINE), name


def test_the_row_of_a_secret_says_that_it_reaches_env_alone() -> None:
    for line in text("docs/questions.md").splitlines():
        if re.match(r"\| *`sso_client_secret`", line):
            assert "`.env`" in line


def test_ci_runs_the_command_that_the_readme_names() -> None:
    readme, ci = text("README.md"), text(".ci/run")
    for command in ("uv run poe check", "uv run poe test"):
        assert command in readme
        assert command in ci


def test_the_first_command_of_the_readme_uses_what_is_tested() -> None:
    assert "uv run scripts/try_it.py" in text("README.md")
    block = re.search(
        r"\A# /// script\n(.*?)^# ///$", text("scripts/try_it.py"), re.DOTALL | re.MULTILINE
    )
    assert block is not None
    script = tomllib.loads(re.sub(r"^# ?", "", block[1], flags=re.MULTILINE))
    assert script["requires-python"] == PROJECT["project"]["requires-python"]
    assert script["tool"]["uv"]["exclude-newer"] == PROJECT["tool"]["uv"]["exclude-newer"]
    assert set(script["dependencies"]) <= set(PROJECT["dependency-groups"]["dev"])


def test_the_changelog_has_a_section_for_this_version() -> None:
    version = re.escape(PROJECT["project"]["version"])
    assert re.search(rf"^## \[?v?{version}\b", text("CHANGELOG.md"), re.MULTILINE)


def test_every_link_to_a_file_leads_somewhere() -> None:
    for path in tracked_files(REPOSITORY):
        if path.suffix == ".md" and path.parts[0] != "template":
            content = (REPOSITORY / path).read_text("utf-8")
            for target, anchor in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)(?:#([^)]+))?\)", content):
                linked = REPOSITORY / path.parent / target
                assert linked.exists(), f"{path}: {target}"
                if anchor:
                    assert anchor in anchors(linked.read_text("utf-8")), (
                        f"{path}: {target}#{anchor}"
                    )


def anchors(content: str) -> set[str]:
    """Return the places of a page that a forge lets a link lead to."""
    headings = re.findall(r"(?m)^#+ (.+)$", content)
    return {re.sub(r"[^\w -]", "", it.lower()).replace(" ", "-") for it in headings}


def test_what_is_said_to_stand_elsewhere_is_linked() -> None:
    """A reader who is told to look below must find it."""
    for path in tracked_files(REPOSITORY):
        if path.suffix == ".md" and path.name != "CHANGELOG.md":
            content = (REPOSITORY / path).read_text("utf-8")
            assert not re.findall(r"(?i)\bsee (?:below|above)\b", content), path
            assert {*re.findall(r"\]\(#([^)]+)\)", content)} <= anchors(content), path


# What was written of an earlier layout stays.
_HISTORY = ("CHANGELOG.md", "docs/decisions/")
# What the examples of the documentation call their team's own files.
_EXAMPLES = ("invoice", "app/core/sku.py", "test_language.py")


def shipped_paths() -> set[str]:
    """Return every file and folder of the template, as a project receives them."""
    shipped = {path.as_posix().removesuffix(".jinja") for path in tracked_files(TEMPLATE)}
    return shipped | {parent.as_posix() for name in shipped for parent in Path(name).parents}


def test_every_path_that_is_named_is_one_of_the_template_or_of_its_tests() -> None:
    shipped = shipped_paths()
    for path in tracked_files(REPOSITORY):
        if path.suffixes[:1] != [".md"] or path.as_posix().startswith(_HISTORY):
            continue
        content = (REPOSITORY / path).read_text("utf-8")
        for name in re.findall(
            r"`((?:app|template_tools|migrations|tests|\.github)/[^`\s]*)`", content
        ):
            known = name.rstrip("/") in shipped or (REPOSITORY / name).exists()
            assert known or any(example in name for example in _EXAMPLES), f"{path}: {name}"


def paths_of_the_tree() -> list[str]:
    """Return the paths of the tree in ``docs/layout.md``, which indents each level by two."""
    (tree,) = re.findall(r"^```text\n(.+?)^```", text("docs/layout.md"), re.MULTILINE | re.DOTALL)
    paths: list[str] = []
    folders: list[str] = []
    for line in tree.splitlines():
        name = line.split()[0]
        del folders[(len(line) - len(line.lstrip())) // 2 :]
        paths.append("".join([*folders, name]).rstrip("/"))
        if name.endswith("/"):
            folders.append(name)
    return paths


def test_the_tree_of_the_layout_page_is_that_of_a_project() -> None:
    """It may leave files out, but shows every package of the application."""
    shown = paths_of_the_tree()
    shipped = shipped_paths()
    assert [path for path in shown if path not in shipped] == []
    packages = {path.rpartition("/")[0] for path in shipped if path.endswith("/__init__.py")}
    assert {path for path in packages if path.startswith("app/")} <= set(shown)


def constants() -> str:
    """Return every string of the application's code; an f-string is the parts between values."""
    trees = [ast.parse(path.read_text("utf-8")) for path in (TEMPLATE / "app").rglob("*.py")]
    return "\n".join(
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def test_every_message_that_the_recipes_quote_is_written_by_the_service() -> None:
    """Operators search for these words."""
    recipes = text("docs/sso.md").partition("## Recipes")[2]
    prose = re.sub(r"^```.+?^```|`.+?`|\*.+?\*", "", recipes, flags=re.MULTILINE | re.DOTALL)
    quoted = [it for it in re.findall(r'"([^"\n]+)"', prose) if " " in it]
    code = constants()
    assert len(quoted) > 10
    for message in quoted:
        # The code fills these two in.
        parts = re.split(r"\(401\): |SSO_INTROSPECTION_URL ", message)
        assert [part for part in parts if part.strip() not in code] == [], message


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (r"^\| ((?:`[A-Z_]+`(?:, )?)+) \|", r"`([A-Z_]+)`"),
        (r"^```dotenv\n((?:.+\n)+?)```", r"^([A-Z_]+)="),
    ],
    ids=["tables", "recipes"],
)
def test_every_setting_of_the_page_about_tokens_is_one(part: str, name: str) -> None:
    known = (_SSO.parents[1] / "core" / "settings.py").read_text("utf-8")
    parts = re.findall(part, text("docs/sso.md"), re.MULTILINE)
    settings = re.findall(name, "".join(parts), re.MULTILINE)
    assert len(settings) > 20
    assert [it for it in settings if f"    {it.lower()}:" not in known] == []


def test_the_code_of_the_page_about_tokens_does_what_it_says(project: Project) -> None:
    """The routes become a resource of a project, and the tests are run there."""
    routes, tests, *others = re.findall(
        r"^```python\n(.+?)^```", text("docs/sso.md"), re.MULTILINE | re.DOTALL
    )
    assert others == []
    resource = project.folder / "app" / "api" / "v1" / "report.py"
    resource.write_text(
        "from fastapi import APIRouter\nfrom pydantic import BaseModel\n"
        "router = APIRouter()\n"
        "class ReportRead(BaseModel): ...\nclass ReportCreate(BaseModel): ...\n" + routes,
        "utf-8",
    )
    with (resource.parent / "router.py").open("a", encoding="utf-8") as router:
        router.write("\nfrom app.api.v1.report import router as report\n")
        router.write("router.include_router(report)\n")
    (project.folder / "tests" / "api" / "test_report.py").write_text(tests, "utf-8")

    done = project.poe("test", "tests/api/test_report.py")

    assert done.returncode == 0, output(done)
    assert "2 passed" in done.stdout


def test_a_relation_is_returned_as_the_page_about_resources_says(
    make_project: Callable[[Answers], Project],
) -> None:
    """Every piece of its section goes where the text says, into resources that were generated."""
    project = make_project(DEFAULTS)
    section = text("docs/add-a-resource.md").partition("## Return a relation")[2]
    section = section.partition("\n## ")[0]
    relation, body, test = re.findall(r"^```python\n(.+?)^```", section, re.MULTILINE | re.DOTALL)
    for fields in (["customer", "name:str"], ["invoice", "number:str", "customer:customer"]):
        done = project.poe("resource", *fields)
        assert done.returncode == 0, output(done)
    model = project.folder / "app/database/model/invoice.py"
    imports, _, member = relation.rpartition("\n\n")
    head, base, rest = model.read_text("utf-8").partition("from app.database.base")
    model.write_text(f"{head}{imports}\n{base}{rest}{member}", "utf-8")
    schema = project.folder / "app/api/v1/invoice/schema.py"
    described, _, member = body.rpartition("\n\n")
    read = re.compile(r"(class InvoiceRead\(.+?)(?=\n\n\n|\Z)", re.DOTALL)
    before = schema.read_text("utf-8")
    changed = read.sub(lambda it: f"{described}\n\n\n{it[1].rstrip()}\n{member.rstrip()}", before)
    assert changed != before
    schema.write_text(changed, "utf-8")
    tests = project.folder / "tests/api/v1/invoice/test_router.py"
    tests.write_text(f"{tests.read_text('utf-8')}\n\n{test}", "utf-8")

    for command in (["format"], ["check"], ["test", "tests/api/v1/invoice", "tests/contract"]):
        done = project.poe(*command)
        assert done.returncode == 0, output(done)


def test_every_setting_of_the_page_about_production_is_one_and_every_one_is_there() -> None:
    """With its default; the code of the settings is the authority."""
    settings = (TEMPLATE / "app/core/settings.py").read_text("utf-8")
    body = settings.partition("class ServerSettings")[2].partition("\n\n\n")[0]
    defaults = dict(re.findall(r"^    (server_\w+): .+?default=([\d_]+)", body, re.MULTILINE))
    assert len(defaults) == 6
    rows = re.findall(
        r"^\|.+\| `(SERVER_\w+)` \| ([\d,]+)", text("docs/production.md"), re.MULTILINE
    )
    assert {name.lower(): int(value.replace(",", "")) for name, value in rows} == {
        name: int(value) for name, value in defaults.items()
    }


def test_the_readme_says_how_to_copy_and_how_to_update() -> None:
    readme = text("README.md")
    assert "copier copy" in readme
    assert "copier update" in "".join(
        Path(REPOSITORY / path).read_text("utf-8")
        for path in tracked_files(REPOSITORY)
        if path.suffix == ".md"
    )


_KINDS = {
    "create_histogram": "histogram",
    "create_observable_counter": "counter",
    "create_observable_gauge": "gauge",
    "create_observable_up_down_counter": "up-down counter",
    "create_counter": "counter",
    "create_up_down_counter": "up-down counter",
    "create_gauge": "gauge",
}


def rows_of_metrics() -> dict[str, tuple[str, str]]:
    """Return the kind and the description of each metric in the table for operators."""
    rows = re.findall(
        r"^\| `([\w.]+)` \| (.+?) \| `\w+` \| (.+) \|$", text("docs/telemetry.md"), re.MULTILINE
    )
    return {name: (kind, meaning) for name, kind, meaning in rows}


def test_the_metrics_that_an_operator_reads_of_are_made() -> None:
    """Dashboards and alerts are built on their names, kinds and units."""
    # FastAPI's.
    made = {
        "http.server.request.duration": "histogram, s",
        "http.server.active_requests": "up-down counter",
    }
    for path in (TEMPLATE / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr=method)) if method in _KINDS:
                    unit = [", s" for it in node.keywords if ast.unparse(it) == "unit='s'"]
                    made[ast.literal_eval(node.args[0])] = "".join([_KINDS[method], *unit])
    assert made == {name: kind for name, (kind, _) in rows_of_metrics().items()}


def strings(node: ast.AST) -> set[str]:
    """Return the string constants of a piece of code."""
    found = [it.value for it in ast.walk(node) if isinstance(it, ast.Constant)]
    return {value for value in found if isinstance(value, str)}


def values_given(code: ast.Module, name: str) -> set[str]:
    """Return the strings given to a metric's attribute, or to what is called like it.

    That is a key of a dictionary, a variable, a parameter of a function of the same module, or a
    field of a class of it.
    """
    given: set[str] = set()
    fields = {
        node.name: [ast.unparse(it.target) for it in node.body if isinstance(it, ast.AnnAssign)]
        for node in ast.walk(code)
        if isinstance(node, ast.ClassDef)
    }
    positions = {
        node.name: [it.arg for it in node.args.args].index(name)
        for node in ast.walk(code)
        if isinstance(node, ast.FunctionDef) and name in [it.arg for it in node.args.args]
    }
    positions |= {kind: names.index(name) for kind, names in fields.items() if name in names}
    for node in ast.walk(code):
        match node:
            case ast.Dict(keys=[ast.Constant(value=key)], values=[value]) if key == name:
                given |= strings(value)
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                given |= strings(value)
            case ast.Call(func=ast.Name(id=function), args=arguments) if function in positions:
                given |= strings(arguments[positions[function]])
    return given


@pytest.mark.parametrize(
    ("metric", "attribute"),
    [("sso.token.refusals", "reason"), ("sso.token_cache.lookups", "result")],
)
def test_each_value_of_their_attributes_is_explained(metric: str, attribute: str) -> None:
    modules = [ast.parse(path.read_text("utf-8")) for path in sorted(_SSO.rglob("*.py"))]
    given = set().union(*(values_given(module, attribute) for module in modules))
    _, meaning = rows_of_metrics()[metric]
    explained = set(re.findall(r"`(\w+)`", meaning)) - {attribute}
    assert len(given) > 3
    assert given <= explained
    assert explained <= set().union(*map(strings, modules)), "explained, and never given"
