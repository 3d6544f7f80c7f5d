"""The rules about Python: the names by which our code and the teams' know each other."""

import ast
from collections.abc import Iterator
from functools import cache

from scripts.guard.rules import Change, Place, forbidden
from scripts.guard.template import Template

type Name = tuple[str, str]
type Class = ast.ClassDef

# What our code may ask of the team's (docs/decisions/0001).
FROM_THEM: set[Name] = {
    ("app.api.v1.router", "router"),
    ("app.hooks", "configure"),
    ("app.hooks", "lifespan"),
    ("app.settings", "Settings"),
}
# What the team's code may ask of ours (docs/decisions/0001), by file. Names that the seeds import
# are added to these, and so are all public classes of the errors and all fixtures.
FROM_US = {
    "app/core/openapi.py": {"PUBLIC"},
    "app/core/schema.py": {"LongText", "RequestSchema", "ResponseSchema", "ShortText"},
    "app/core/settings.py": {"CoreSettings"},
    "app/database/base.py": {"TableBase"},
    "app/database/session.py": {"DbSession"},
    "app/utils/sso/introspection.py": {"CurrentToken", "introspect_token"},
    "app/utils/sso/introspection_schema.py": {"TokenData"},
}
ERRORS = "app/core/errors.py"
FIXTURES = "template_tools/pytest_plugin.py"
SETTINGS = "app/core/settings.py"


# --- What our code asks of theirs ----------------------------------------------------------------


@forbidden(
    "A project that is older, or whose team has cleared up, may have no {what}: our code asks for "
    "the four names of decision 0001 and no other.",
)
def asks_for_a_new_name(change: Change) -> Iterator[Place]:
    """A name that our code takes from a seed, and that no release took before."""
    known = FROM_THEM | {use[1] for template in change.past for use in _uses_of_seeds(template)}
    for path, (module, name) in sorted(_uses_of_seeds(change.new)):
        if (module, name) not in known:
            yield Place(path, f"{module}.{name}")


def _uses_of_seeds(template: Template) -> set[tuple[str, Name]]:
    """Return which file of ours takes which name from which module of the team's."""
    seeds = {_module_name(path) for path in template.seeds if path.endswith(".py")}
    uses: set[tuple[str, Name]] = set()
    for path in template.ours:
        if tree := template.module(path):
            uses |= {(path, name) for name in _imported(tree) if name[0] in seeds}
    return uses


@cache
def _imported(tree: ast.Module) -> set[Name]:
    """Return what a module imports, as (module, name), attributes of modules included."""
    names: set[Name] = set()
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names.add((node.module, alias.name))
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            aliases |= {alias.asname: alias.name for alias in node.names if alias.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            module, _, name = f"{aliases.get(first, first)}.{rest}".rpartition(".")
            names.add((module, name))
    return names


def _module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


# --- What theirs asks of our code ----------------------------------------------------------------


@forbidden(
    "Teams import {what} from it: keep the name, if only as another one for what it has become.",
)
def name_gone(change: Change) -> Iterator[Place]:
    """A name that teams may have imported since some release, at its place or where that moved."""
    promised = {name for template in change.past for name in _promised(template)}
    for path, name in sorted(promised):
        tree = change.new.module(change.new.moved.get(path, path))
        if tree is None or name not in _bound(tree):
            yield Place(path, name)


def _promised(template: Template) -> set[Name]:
    """Return (path, name) of what the team's code may import from ours."""
    promised = {(path, name) for path, names in FROM_US.items() for name in names}
    promised |= {(ERRORS, it.name) for it in classes(template.module(ERRORS))}
    promised |= {(path, name) for path, name in _fixtures(template)}
    ours = {_module_name(path): path for path in template.ours}
    for seed in template.seeds:
        if tree := template.module(seed):
            promised |= {(ours[module], name) for module, name in _imported(tree) if module in ours}
    return {
        (path, name)
        for path, name in promised
        if not name.startswith("_") and (tree := template.module(path)) and name in _bound(tree)
    }


def _bound(tree: ast.Module | Class) -> set[str]:
    """Return the names that a module or class has, and not those inside its functions."""
    names: set[str] = set()
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        match node := waiting.pop():
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Lambda() | ast.comprehension():
                pass
            case ast.alias():
                names.add(node.asname or node.name)
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case _:
                waiting += ast.iter_child_nodes(node)
    return names


def classes(tree: ast.Module | None) -> list[Class]:
    return [node for node in tree.body if isinstance(node, ast.ClassDef)] if tree else []


@forbidden(
    "Tests of teams ask for the fixture {what}: keep it, if only to return what has replaced it.",
)
def fixture_gone(change: Change) -> Iterator[Place]:
    """A function that is there and is no fixture any more."""
    now = {name for _, name in _fixtures(change.new)}
    tree = change.new.module(FIXTURES)
    for name in sorted({name for it in change.past for _, name in _fixtures(it)} - now):
        if tree and name in _bound(tree):
            yield Place(FIXTURES, name)


def _fixtures(template: Template) -> set[Name]:
    return {
        (path, node.name)
        for path in (FIXTURES, "devtools/pytest_plugin.py")
        if (tree := template.module(path))
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
    }


@forbidden(
    "Code of teams uses {what}: keep it, if only as a property that returns what has replaced it.",
)
def member_gone(change: Change) -> Iterator[Place]:
    """An attribute or method of a public class that some release had."""
    paths = sorted({ERRORS, *FROM_US})
    for path in paths:
        now = _members(change.new.module(path))
        before = {item for t in change.past for item in _members(t.module(path)).items()}
        for name, members in sorted(before, key=lambda item: (item[0], sorted(item[1]))):
            for member in sorted(members - now.get(name, members)):
                # TableBase has a rule of its own, which says more.
                if name != "TableBase":
                    yield Place(path, f"{name}.{member}")


def _members(tree: ast.Module | None) -> dict[str, frozenset[str]]:
    """Return the public attributes and methods of each public class, inherited ones included."""
    members: dict[str, frozenset[str]] = {}
    for node in classes(tree):
        inherited = {m for base in node.bases for m in members.get(ast.unparse(base), ())}
        own = {name for name in _bound(node) | _set_on_self(node) if not name.startswith("_")}
        if not node.name.startswith("_"):
            members[node.name] = frozenset(own | inherited)
    return members


def _set_on_self(node: Class) -> set[str]:
    return {
        inner.attr
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute)
        and isinstance(inner.ctx, ast.Store)
        and ast.unparse(inner.value) == "self"
    }


# --- Settings ------------------------------------------------------------------------------------


@forbidden(
    "Services that run set {what}: keep reading it, with validation_alias=AliasChoices(new, old).",
)
def variable_gone(change: Change) -> Iterator[Place]:
    """An environment variable that some release read."""
    now = _variables(change.new)
    if SETTINGS in change.new.files:
        before = {variable for template in change.past for variable in _variables(template)}
        yield from (Place(SETTINGS, name) for name in sorted(before - now.keys()))


@forbidden(
    "A service that runs would not start after the update, because {what} is not set: give it a "
    "default.",
)
def variable_required(change: Change) -> Iterator[Place]:
    """A setting without a default that services could do without before."""
    before = _variables(change.old)
    for field, (names, required) in _fields(change.new).items():
        if required and not any(before.get(name) for name in names):
            yield Place(SETTINGS, field.upper())


def _variables(template: Template) -> dict[str, bool]:
    """Return the environment variables that are read, and whether they must be set."""
    fields = _fields(template).values()
    return {name: required for names, required in fields for name in names}


def _fields(template: Template) -> dict[str, tuple[frozenset[str], bool]]:
    """Return each field of the settings, with its variables and whether it has no default."""
    fields: dict[str, tuple[frozenset[str], bool]] = {}
    for node in classes(template.module(SETTINGS)):
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                aliases = _texts(_keyword(item.value, "validation_alias", "alias"))
                aliases |= _texts(_keyword(item.annotation, "validation_alias", "alias"))
                names = aliases or {item.target.id}
                fields[item.target.id] = (
                    frozenset(name.upper() for name in names),
                    not _has_default(item.value),
                )
    return fields


def _keyword(node: ast.AST | None, *names: str) -> list[ast.AST]:
    keywords = (n for n in (ast.walk(node) if node else ()) if isinstance(n, ast.keyword))
    return [keyword.value for keyword in keywords if keyword.arg in names]


def _texts(nodes: list[ast.AST]) -> set[str]:
    constants = (n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Constant))
    return {constant.value for constant in constants if isinstance(constant.value, str)}


def _has_default(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call) and ast.unparse(value.func).endswith("Field"):
        given = [*value.args, *_keyword(value, "default", "default_factory")]
        return any(ast.unparse(node) != "..." for node in given)
    return value is not None and ast.unparse(value) != "..."
