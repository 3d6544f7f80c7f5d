"""copier.yml holds only what Copier knows, nothing that asks for trust, and helpful questions."""

import re

import pytest
import yaml

from scripts.guard.template import ENVIRONMENT
from tests.projects import REPOSITORY, Projects

# The settings that this template uses. Copier ignores a misspelt one silently, and _tasks,
# _migrations, _jinja_extensions and _external_data would ask every user for --trust.
SETTINGS = {
    "_envops",
    "_exclude",
    "_message_after_copy",
    "_message_after_update",
    "_min_copier_version",
    "_preserve_symlinks",
    "_skip_if_exists",
    "_subdirectory",
}
# The attributes of copier._user_data.Question.
QUESTION_KEYS = {
    "ask",
    "choices",
    "default",
    "help",
    "multiline",
    "multiselect",
    "placeholder",
    "qmark",
    "secret",
    "type",
    "validator",
    "when",
}
TEXT = (REPOSITORY / "copier.yml").read_text("utf-8")
DOCUMENT = yaml.safe_load(TEXT)
COMPUTED = {name for name, value in DOCUMENT.items() if isinstance(value, dict) and "when" in value}
QUESTIONS = {
    name: value
    for name, value in DOCUMENT.items()
    if not name.startswith("_") and name not in COMPUTED
}
LANGUAGES: list[str] = [*DOCUMENT["language"]["choices"].values()]
# How a sentence begins that says how to answer.
IMPERATIVES = {"en": r"(Write|Leave)\b", "es": r"(Usa|Une|Empieza|Deja|Quita)\b"}


def shown(text: str, language: str) -> str:
    """Return what Copier makes of a text in a language."""
    return ENVIRONMENT.from_string(text).render(language=language)


def refusals(name: str, language: str) -> list[str]:
    """Return what the validator of a question may say."""
    validator = QUESTIONS[name].get("validator", "")
    messages = re.findall(r"-%}(.*?)\{%-", validator, re.DOTALL)
    assert len(messages) == len(re.findall(r"{% if|{%- elif", validator))
    return [shown(message.strip(), language) for message in messages]


def test_every_setting_is_one_that_copier_knows_and_none_asks_for_trust() -> None:
    assert {name for name in DOCUMENT if name.startswith("_")} <= SETTINGS


def test_no_key_is_written_twice() -> None:
    keys = re.findall(r"^(\w+):", TEXT, re.MULTILINE)
    assert sorted(keys) == sorted(set(keys))


def test_the_oldest_copier_that_works_is_named() -> None:
    assert DOCUMENT["_min_copier_version"] == "9.19.0"


def test_a_misspelt_variable_is_an_error() -> None:
    assert DOCUMENT["_envops"]["undefined"] == "jinja2.StrictUndefined"


@pytest.mark.parametrize("name", QUESTIONS)
class TestEachQuestion:
    def test_it_has_only_keys_that_copier_knows(self, name: str) -> None:
        assert set(QUESTIONS[name]) <= QUESTION_KEYS

    def test_it_has_a_type_and_a_default(self, name: str) -> None:
        question = QUESTIONS[name]
        assert question["type"] == "str"
        assert isinstance(question["default"], str)

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_its_help_is_a_sentence(self, name: str, language: str) -> None:
        assert shown(QUESTIONS[name]["help"], language).endswith(".")

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_its_help_is_not_cut_off_by_a_terminal_of_80_columns(
        self, name: str, language: str
    ) -> None:
        # Copier puts a symbol of two columns and a space before it.
        first, *others = shown(QUESTIONS[name]["help"], language).splitlines()
        assert len(first) <= 77
        assert all(len(line) <= 80 for line in others)

    def test_it_has_a_validator_or_choices(self, name: str) -> None:
        assert ("validator" in QUESTIONS[name]) != ("choices" in QUESTIONS[name])

    def test_its_default_is_empty_if_it_is_a_secret(self, name: str) -> None:
        # Copier does not validate the default of a secret.
        if QUESTIONS[name].get("secret"):
            assert QUESTIONS[name]["default"] == ""

    def test_its_validator_matches_the_whole_answer(self, name: str) -> None:
        # ^ and $ would accept a line break at the end.
        validator = QUESTIONS[name].get("validator", "")
        for pattern in re.findall(r"regex_search\('(.*?)'\)", validator):
            bare = re.sub(r"\[[^\]]*\]", "", pattern).replace(r"\$", "")
            assert not re.search(r"[\^$]", bare), pattern

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_its_validator_says_how_to_answer(self, name: str, language: str) -> None:
        for message in refusals(name, language):
            assert re.match(IMPERATIVES[language], message), message

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_a_terminal_of_80_columns_shows_the_whole_reason_of_a_refusal(
        self, name: str, language: str
    ) -> None:
        for message in refusals(name, language):
            assert len(f"Validation error for question '{name}': {message}") <= 79, message


def test_what_is_computed_is_never_asked() -> None:
    assert all(DOCUMENT[name]["when"] is False for name in COMPUTED)


def test_a_project_cannot_have_the_name_of_a_package_that_it_installs(projects: Projects) -> None:
    reserved = set(DOCUMENT["reserved_slugs"]["default"].split())
    missing = projects.locked_packages() - reserved
    assert not missing, (
        f"add to reserved_slugs in copier.yml: {' '.join(sorted(missing))}; "
        f"all of them: {' '.join(sorted(reserved | missing))}"
    )
