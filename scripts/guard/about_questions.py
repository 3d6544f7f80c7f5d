"""The rules about copier.yml: what an update makes of the answers that projects have recorded."""

from collections.abc import Iterator

from jinja2 import meta
from packaging.version import Version

from scripts.guard.answers import variations, written_answers
from scripts.guard.rules import Change, Kind, Place, rule
from scripts.guard.template import ENVIRONMENT, Question, Template

# Copier asks every user for --trust when a release has one of these, and the next update of a
# project that was copied from such a release asks for it too.
_TRUST = ("_tasks", "_migrations", "_jinja_extensions", "_external_data")
_JUDGED_ELSEWHERE = {"_exclude", "_skip_if_exists", "_min_copier_version", *_TRUST}
_WORDS = ("help", "placeholder", "qmark", "ask", "multiline")


def _common(change: Change) -> Iterator[tuple[str, Question, Question]]:
    """Yield what was asked and is still there."""
    for name, question in change.old.asked.items():
        if name in change.new.entries:
            yield name, question, change.new.entries[name]


@rule(
    Kind.FORBIDDEN,
    "Every user would have to pass --trust, and this key would haunt the next update even after "
    "it is gone: compute with a Jinja macro, and say what to do in _message_after_copy.",
)
def asks_for_trust(change: Change) -> Iterator[Place]:
    """A setting that runs code."""
    yield from (Place(key) for key in _TRUST if key in change.new.document)


@rule(
    Kind.FORBIDDEN,
    "`copier update --defaults` would stop at it: give it a default that keeps projects as they "
    "are.",
)
def without_default(change: Change) -> Iterator[Place]:
    """A question that must be answered."""
    for name, question in change.new.entries.items():
        if "default" not in question:
            yield Place(name)


@rule(
    Kind.FORBIDDEN,
    "The answers of projects would be lost: write default: \"{{ {what} | default('x') }}\" into "
    'the question that follows it, or keep it with ask: "{{ false }}" if none does.',
)
def removed(change: Change) -> Iterator[Place]:
    """A question of any release that is gone, and that no other one takes over."""
    for name in sorted(_removed(change)):
        if not _successors(change.new, name):
            yield Place(name, name)


def _removed(change: Change) -> set[str]:
    return {name for t in change.past for name in t.asked} - change.new.entries.keys()


def _successors(template: Template, gone: str) -> list[str]:
    """Return the questions whose default takes the answer of one that is gone."""
    return [
        name
        for name, question in template.asked.items()
        if gone
        in meta.find_undeclared_variables(ENVIRONMENT.parse(str(question.get("default", ""))))
    ]


@rule(
    Kind.CHANGELOG,
    "Its answers move to {what}, and the changelog must name that.",
    must_say="{what}",
)
def renamed(change: Change) -> Iterator[Place]:
    """A question of the last release that another one takes over."""
    for name in sorted(_removed(change) & change.old.asked.keys()):
        yield from (Place(name, successor) for successor in _successors(change.new, name))


@rule(
    Kind.FORBIDDEN,
    "A project that answered {what} would be reset to the default in silence: accept what the last "
    "release accepted, and refuse only in a new question.",
)
def tightened(change: Change) -> Iterator[Place]:
    """An answer that the last release accepted, and that is refused now."""
    for name, before, after in _common(change):
        if after.get("when", True) is not False and _may_judge_otherwise(change, name):
            if before.get("type") != after.get("type"):
                yield Place(name, f"as {before.get('type')}, not as {after.get('type')},")
            elif refused := _refused(change, name, name):
                yield Place(name, refused)
    for gone in sorted(_removed(change) & change.old.asked.keys()):
        for successor in _successors(change.new, gone):
            if refused := _refused(change, gone, successor):
                yield Place(successor, f"{refused} to {gone}")


def _may_judge_otherwise(change: Change, name: str) -> bool:
    """Tell whether the question, or a value that its validator reads, has changed."""
    validator = str(change.new.entries[name].get("validator", ""))
    read = {name, *meta.find_undeclared_variables(ENVIRONMENT.parse(validator))}
    return any(
        change.old.entries.get(entry) != change.new.entries.get(entry)
        or change.old.default_answers.get(entry) != change.new.default_answers.get(entry)
        for entry in read
    )


def _refused(change: Change, name: str, successor: str) -> str:
    """Return one answer that the old question accepts and its successor does not."""
    if choices := change.old.choices(name):
        refused = [c for c in choices if not change.new.accepts(successor, c)]
        return " or ".join(repr(choice) for choice in refused)
    excused = {word for words in _reserved(change).values() for word in words}
    accepted = [t for t in written_answers() if change.old.accepts(name, t)]
    for text in (*accepted, *variations(accepted)):
        passed_on = text if name == successor else _passed_on(change.new, name, text, successor)
        if (
            not change.new.accepts(successor, passed_on)
            and change.old.accepts(name, text)
            and text not in excused
        ):
            return ascii(text if len(text) <= 60 else f"{text[:50]}... of length {len(text)}")
    return ""


def _passed_on(template: Template, gone: str, answer: str, successor: str) -> str:
    default = str(template.entries[successor].get("default", ""))
    return template.render(default, {**template.default_answers, gone: answer})


def _reserved(change: Change) -> dict[str, list[str]]:
    """Return, by computed list of words, those that are new in it."""
    words = {}
    for name in change.new.entries.keys() - change.new.asked.keys():
        before = str(change.old.default_answers.get(name, "")).split()
        after = str(change.new.default_answers[name]).split()
        words[name] = sorted({*after} - {*before})
    return words


@rule(
    Kind.CHANGELOG,
    "A validator that refuses {what} from now on refuses the projects that are called so.",
)
def more_reserved(change: Change) -> Iterator[Place]:
    """A computed list of words that has grown, such as the names of dependencies."""
    for name, words in sorted(_reserved(change).items()):
        if words and name in change.old.entries:
            yield Place(name, ", ".join(words))


@rule(
    Kind.FORBIDDEN,
    "`when:` discards the answer of every project that does not meet it: use `ask:`, which skips "
    "the question and keeps the answer.",
)
def discards(change: Change) -> Iterator[Place]:
    """A question that has got a condition, or another one."""
    for name, before, after in _common(change):
        if after.get("when", True) not in (True, before.get("when", True)):
            yield Place(name)


@rule(
    Kind.FORBIDDEN,
    "Its answer would be written into .copier-answers.yml, which is committed: keep secret: true.",
)
def told(change: Change) -> Iterator[Place]:
    """A secret that is none any more, in this question or in the one that follows it."""
    for name in sorted(
        {name for t in change.past for name, q in t.asked.items() if q.get("secret")}
    ):
        heirs = [name] if name in change.new.entries else _successors(change.new, name)
        yield from (Place(heir) for heir in heirs if not change.new.entries[heir].get("secret"))


@rule(
    Kind.FORBIDDEN,
    "Copier records no secret, so that the next update would forget the answers of all projects: "
    "ask for the secret in a new question.",
)
def hushed(change: Change) -> Iterator[Place]:
    """A question that has become secret."""
    for name, before, after in _common(change):
        if after.get("secret") and not before.get("secret"):
            yield Place(name)


@rule(
    Kind.CHANGELOG,
    "A new question, which the update asks; the changelog must name it.",
    must_say="{what}",
)
def asked(change: Change) -> Iterator[Place]:
    """A question that the last release did not ask."""
    for name in change.new.asked:
        if name not in change.old.entries:
            yield Place(name, name)


@rule(
    Kind.CHANGELOG,
    "Projects have recorded an answer, so that the default is for new projects only, and the "
    'changelog must say so ("new projects").',
    must_say="new project",
)
def other_default(change: Change) -> Iterator[Place]:
    """A question with another default."""
    for name, before, after in _common(change):
        if "default" in after and before.get("default") != after["default"]:
            yield Place(name)


@rule(Kind.CHANGELOG, "It offers more: {what}.")
def more_choices(change: Change) -> Iterator[Place]:
    """A question with a new choice."""
    for name, _, _ in _common(change):
        if more := [c for c in change.new.choices(name) if c not in change.old.choices(name)]:
            yield Place(name, ", ".join(str(choice) for choice in more))


@rule(Kind.CHANGELOG, "A computed value differs, and with it what projects are rendered from.")
def computed_otherwise(change: Change) -> Iterator[Place]:
    """A computed value of another definition."""
    for name, question in change.old.entries.items():
        if name not in change.old.asked and question != change.new.entries.get(name):
            yield Place(name)


@rule(Kind.SAFE, "Only how it is asked differs; no recorded answer changes.")
def asked_otherwise(change: Change) -> Iterator[Place]:
    """A question with another text, or with a validator that accepts as much or more."""
    for name, before, after in _common(change):
        if any(before.get(k) != after.get(k) for k in (*_WORDS, "validator")):
            yield Place(name)


@rule(
    Kind.FORBIDDEN,
    "An older Copier misreads the template in silence (`ask:` is ignored before 9.19): leave the "
    "version.",
)
def older_copier(change: Change) -> Iterator[Place]:
    """A lower or no least version of Copier."""
    if _copier(change.new) < _copier(change.old):
        yield Place("_min_copier_version")


@rule(
    Kind.CHANGELOG,
    'Teams must update Copier first, and the changelog must say so ("Copier").',
    must_say="copier",
)
def newer_copier(change: Change) -> Iterator[Place]:
    """A higher least version of Copier."""
    if _copier(change.new) > _copier(change.old):
        yield Place("_min_copier_version")


def _copier(template: Template) -> Version:
    return Version(str(template.document.get("_min_copier_version", "0")))


@rule(Kind.SAFE, "A message to the user.")
def message(change: Change) -> Iterator[Place]:
    """A message with another text."""
    yield from (Place(key) for key in _settings(change) if key.startswith("_message_"))


@rule(Kind.SAFE, "What its lines mean for each file stands beside that file.")
def patterns(change: Change) -> Iterator[Place]:
    """Other lines of _exclude or _skip_if_exists."""
    for key in ("_exclude", "_skip_if_exists"):
        if change.old.patterns(key) != change.new.patterns(key):
            yield Place(key)


@rule(Kind.CHANGELOG, "It changes how Copier renders everything.")
def setting(change: Change) -> Iterator[Place]:
    """Another setting of Copier, such as _envops."""
    yield from (Place(key) for key in _settings(change) if not key.startswith("_message_"))


def _settings(change: Change) -> list[str]:
    keys = {k for t in (change.old, change.new) for k in t.document if k.startswith("_")}
    return [
        key
        for key in sorted(keys - _JUDGED_ELSEWHERE)
        if change.old.document.get(key) != change.new.document.get(key)
    ]


RULES = (
    asks_for_trust,
    without_default,
    removed,
    renamed,
    tightened,
    more_reserved,
    discards,
    told,
    hushed,
    asked,
    other_default,
    more_choices,
    computed_otherwise,
    asked_otherwise,
    older_copier,
    newer_copier,
    message,
    patterns,
    setting,
)
