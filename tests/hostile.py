"""Hypothesis strategies for answers: what must be accepted, and what somebody hostile would try."""

from hypothesis import strategies as st

from tests.answers import Answers
from tests.test_copier_yml import DOCUMENT, QUESTIONS

# Stands in every password and secret, so that it is found wherever one leaks to.
CANARY = "Hunter2Canary"

# What means something to the languages of the files, or looks like something else.
METACHARACTERS = [
    *"'\"\\#$%&*!|>?@`:,=-+~^;<[](){}/. ",
    *("$HOME", "${HOME", "$(id)", "`id`", "%s", "%(here)s", "%%", "&&", "||", "\\n", "\\u0041"),
    *("{{ 7 * 7 }}", "{% raw %}", "{% endraw %}", "{# no #}", "{{", "}}", "%}", "#}"),
    *(": ", "- ", " #", "# ", "---", "...", "<<: *a", "&a", "!!python/name:os.system", "|-", "? "),
    *('"""', "'''", '\\"', "\\'", "\\\\", "]]", "[tool.uv]", "null", "~", "yes", "0x1f", "1e3"),
    *("```", "~~~", "<!--", "-->", "</script>", "](javascript:0)", "| a |", "EOF", "RUN id"),
    *("\N{NO-BREAK SPACE}", "\N{ZERO WIDTH SPACE}", "\N{RIGHT-TO-LEFT OVERRIDE}", "\ufeff"),
    *("\N{CYRILLIC SMALL LETTER A}", "e\N{COMBINING ACUTE ACCENT}", "\N{PARTY POPPER}", "\uffff"),
]
# What ends a line somewhere, moves a cursor, expands, or cannot be encoded.
BREAKS = [
    *("\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\x85"),
    *("\N{LINE SEPARATOR}", "\N{PARAGRAPH SEPARATOR}"),
    *("\0", "\t", "\b", "\a", "\x1b[2J", "\x7f", "\x9b", "\ud800", "\udfff", "${HOME}", " "),
]

_printable = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
_ascii = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
_label = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,10}[A-Za-z0-9])?", fullmatch=True)
_host = st.one_of(
    st.lists(_label, max_size=3).map(lambda labels: ".".join([*labels, "example", "com"])),
    st.sampled_from(["localhost", "db", "127.0.0.1", "[::1]"]),
    st.ip_addresses(v=6).map("[{}]".format),
)
_port = st.one_of(st.just(""), st.integers(1, 65535).map(":{}".format))
_name = st.from_regex(r"[A-Za-z0-9._~-]{1,20}(%20|%C3%A9)?", fullmatch=True)
_user = st.one_of(st.just(""), _name.map("{}@".format))
_slug = st.from_regex(r"[a-z](-?[a-z0-9]){1,19}", fullmatch=True)
_reserved = set(DOCUMENT["reserved_slugs"]["default"].split())


def _line(characters: st.SearchStrategy[str], longest: int) -> st.SearchStrategy[str]:
    """Make a line without outer spaces."""
    words = st.one_of(st.sampled_from(METACHARACTERS), st.text(characters, max_size=8))
    lines = st.one_of(
        st.lists(words, min_size=1, max_size=8).map("".join),
        st.text(characters, min_size=1, max_size=longest),
        st.text(characters, min_size=1, max_size=3).map(lambda text: text * longest),
    )
    return lines.map(lambda line: line[:longest].strip()).filter(bool)


def _ascii_line(longest: int) -> st.SearchStrategy[str]:
    """Make a line without outer spaces that dotenv, which expands ``${``, can hold."""
    lines = _line(_ascii, longest)
    return lines.filter(lambda line: line.isascii() and "${" not in line)


_database_url = st.builds(
    "{}://{}{}{}/{}{}".format,
    st.sampled_from(["postgresql", "postgres", "postgresql+asyncpg"]),
    _user,
    _host,
    _port,
    _name,
    st.sampled_from(["", "?sslmode=require", "?ssl=verify-full"]),
)
_issuer = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["https", "http"]),
    _host,
    _port,
    st.lists(_name.map("/{}".format), max_size=3).map("".join),
)
_secret = st.tuples(_ascii_line(200), _ascii_line(200)).map(CANARY.join)

# What a question that asks for text must accept. One that is not here gets hostile answers only.
_TEXTS: dict[str, st.SearchStrategy[str]] = {
    "project_name": _line(_printable, 60),
    "project_slug": _slug.filter(lambda slug: slug not in _reserved),
    "description": _line(_printable, 200),
    "database_url": st.one_of(st.just(""), _database_url),
    "sso_issuer": st.one_of(st.just(""), _issuer),
    "sso_audience": _ascii_line(255).map(lambda line: line.replace(" ", "_")),
    "sso_client_id": _ascii_line(255),
    "sso_client_secret": st.one_of(st.just(""), _secret.filter(lambda line: "${" not in line)),
}
# What somebody may write who has not read the question.
_MISTAKES = {
    "database_url": [
        f"postgresql://user:{CANARY}@localhost:5432/app",
        f"postgres://:{CANARY}@localhost/app?sslmode=require",
        f"postgresql://user@localhost/app?password={CANARY}",
        f"postgresql://user@localhost/app?sslmode=require&sslpassword={CANARY}",
        f"mysql://user:{CANARY}@localhost/app",
        f"host=localhost user=app password={CANARY}",
        "postgresql://localhost:99999/app",
        "postgresql://256.256.256.256/app",
        "postgresql://[:::]/app",
        "postgresql://local..host/%zz",
    ],
    "sso_issuer": [
        f"https://user:{CANARY}@sso.example.com/main",
        "sso.example.com",
        "https://sso.example.com:99999",
        "https://256.256.256.256",
        "https://[:::]",
        "https://sso..example.com/%zz",
    ],
    "sso_audience": ["${HOME}", "one two", "größe"],
    "sso_client_id": ["${HOME}", "client ", "größe"],
    "sso_client_secret": [f"{CANARY}${{HOME}}", f"{CANARY} ", f"{CANARY}\n"],
}
_anything = st.text(st.one_of(st.characters(), st.sampled_from([*"'\"\\#${}%\n"])), max_size=300)
_spoiler = st.one_of(st.sampled_from(BREAKS), st.sampled_from(METACHARACTERS), st.characters())


def choices(question: str) -> list[str]:
    """Return the values that can be chosen, or none for a question that asks for text."""
    listed = QUESTIONS[question].get("choices", [])
    return list(listed.values() if isinstance(listed, dict) else listed)


ACCEPTABLE = _TEXTS | {
    question: st.sampled_from(choices(question)) for question in QUESTIONS if choices(question)
}


@st.composite
def hostile(draw: st.DrawFn, question: str) -> str:
    """Make answers of any kind: mistakes, what would be accepted, anything; half of it spoilt."""
    mistakes = st.sampled_from(_MISTAKES.get(question, [""]))
    answer = draw(st.one_of(mistakes, ACCEPTABLE.get(question, mistakes), _anything))
    if draw(st.booleans()):
        return answer
    position = draw(st.integers(0, len(answer)))
    return f"{answer[:position]}{draw(_spoiler)}{answer[position:]}"


@st.composite
def answer_sets(draw: st.DrawFn) -> tuple[Answers, set[str]]:
    """Make answers to some questions, one or two hostile, and name those to be accepted."""
    spoilt = draw(st.sets(st.sampled_from(list(QUESTIONS)), min_size=1, max_size=2))
    good = draw(st.sets(st.sampled_from(list(ACCEPTABLE)))) - spoilt
    answers = {
        name: draw(hostile(name) if name in spoilt else ACCEPTABLE[name])
        for name in QUESTIONS
        if name in good | spoilt
    }
    return answers, good


@st.composite
def acceptable_sets(draw: st.DrawFn) -> Answers:
    """Make answers to all questions, all of which must be accepted."""
    return {name: draw(answers) for name, answers in ACCEPTABLE.items()}
