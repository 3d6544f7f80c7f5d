"""The rules about copier.yml: what an update makes of the answers that projects have recorded."""

from collections.abc import Iterator

from jinja2 import meta
from packaging.version import Version

from scripts.guard.answers import variations, written_answers
from scripts.guard.rules import Change, Place, forbidden, told
from scripts.guard.template import ENVIRONMENT, Question, Template

# Copier asks every user for --trust when a release has one of these, and the next update of a
# project that was copied from such a release asks for it too.
_TRUST = ("_tasks", "_migrations", "_jinja_extensions", "_external_data")


def _common(change: Change) -> Iterator[tuple[str, Question, Question]]:
    """Yield what was asked and is still there."""
    for name, question in change.old.asked.items():
        if name in change.new.entries:
            yield name, question, change.new.entries[name]


@forbidden(
    "Every user would have to pass --trust, and this key would haunt the next update even after "
    "it is gone: compute with a Jinja macro, and say what to do in _message_after_copy.",
)
def asks_for_trust(change: Change) -> Iterator[Place]:
    """A setting that runs code."""
    yield from (Place(key) for key in _TRUST if key in change.new.document)


@forbidden(
    "`copier update --defaults` would stop at it: give it a default that keeps projects as they "
    "are.",
)
def without_default(change: Change) -> Iterator[Place]:
    """A question that must be answered."""
    for name, question in change.new.entries.items():
        if "default" not in question:
            yield Place(name)


@forbidden(
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


@forbidden(
    "A project that answered {what} would be reset to the default in silence: accept what the last "
    "release accepted, and refuse only in a new question.",
)
def tightened(change: Change) -> Iterator[Place]:
    """An answer that the last release accepted, and that is refused now."""
    pairs = [(name, name) for name, _, after in _common(change) if after.get("when", True)]
    pairs += [
        (gone, heir)
        for gone in sorted(_removed(change) & change.old.asked.keys())
        for heir in _successors(change.new, gone)
    ]
    for name, heir in pairs:
        if change.old.entries[name].get("type") != change.new.entries[heir].get("type"):
            yield Place(heir, "as another type")
        elif refused := _refused(change, name, heir):
            yield Place(heir, refused if name == heir else f"{refused} to {name}")


def _refused(change: Change, name: str, heir: str) -> str:
    """Return one answer that the old question accepts and its heir does not."""
    if choices := change.old.choices(name):
        refused = [c for c in choices if not change.new.accepts(heir, c)]
        return " or ".join(repr(choice) for choice in refused)
    if name == heir and not _may_judge_otherwise(change, name):
        return ""
    # A name that a new dependency needs is refused, and the changelog says so.
    lists = change.new.entries.keys() - change.new.asked.keys()
    excused = {word for key in lists for word in str(change.new.default_answers[key]).split()}
    accepted = [text for text in written_answers() if change.old.accepts(name, text)]
    for text in (*accepted, *variations(accepted)):
        default = str(change.new.entries[heir].get("default", ""))
        context = {**change.new.default_answers, name: text}
        passed_on = text if name == heir else change.new.render(default, context)
        if (
            not change.new.accepts(heir, passed_on)
            and change.old.accepts(name, text)
            and text not in excused
        ):
            return ascii(text if len(text) <= 60 else f"{text[:50]}... of length {len(text)}")
    return ""


def _may_judge_otherwise(change: Change, name: str) -> bool:
    """Tell whether the question, or a value that its validator reads, has changed."""
    validator = str(change.new.entries[name].get("validator", ""))
    read = {name, *meta.find_undeclared_variables(ENVIRONMENT.parse(validator))}
    return any(change.old.entries.get(entry) != change.new.entries.get(entry) for entry in read)


@forbidden(
    "`when:` discards the answer of every project that does not meet it: use `ask:`, which skips "
    "the question and keeps the answer.",
)
def discards(change: Change) -> Iterator[Place]:
    """A question that has got a condition, or another one."""
    for name, before, after in _common(change):
        if after.get("when", True) not in (True, before.get("when", True)):
            yield Place(name)


@forbidden(
    "Its answer would be written into .copier-answers.yml, which is committed: keep secret: true.",
)
def secret_told(change: Change) -> Iterator[Place]:
    """A secret that is none any more, in this question or in the one that follows it."""
    secrets = {name for t in change.past for name, q in t.asked.items() if q.get("secret")}
    for name in sorted(secrets):
        heirs = [name] if name in change.new.entries else _successors(change.new, name)
        yield from (Place(heir) for heir in heirs if not change.new.entries[heir].get("secret"))


@forbidden(
    "Copier records no secret, so that the next update would forget the answers of all projects: "
    "ask for the secret in a new question.",
)
def hushed(change: Change) -> Iterator[Place]:
    """A question that has become secret."""
    for name, before, after in _common(change):
        if after.get("secret") and not before.get("secret"):
            yield Place(name)


@forbidden(
    "An older Copier misreads the template in silence (`ask:` is ignored before 9.19): leave the "
    "version.",
)
def older_copier(change: Change) -> Iterator[Place]:
    """A lower or no least version of Copier."""
    if _copier(change.new) < _copier(change.old):
        yield Place("_min_copier_version")


@told("Teams must update Copier first.", must_say="copier")
def newer_copier(change: Change) -> Iterator[Place]:
    """A higher least version of Copier."""
    if _copier(change.new) > _copier(change.old):
        yield Place("_min_copier_version")


def _copier(template: Template) -> Version:
    return Version(str(template.document.get("_min_copier_version", "0")))
