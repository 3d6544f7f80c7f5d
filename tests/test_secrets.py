"""Nothing that looks like a secret is rendered, but for what a secret answer puts into .env."""

import math
import re
from collections import Counter
from collections.abc import Callable

import pytest

from tests.answers import ANSWER_SETS, Answers
from tests.projects import Project, succeed

# As gitleaks knows them; the last finds what is assigned to a name that says so.
_KNOWN = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_\w{36}"
    r"|\bglpat-[\w-]{20}|\bxox[abprs]-[\w-]{10}|\bsk_live_\w{10}|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
    r"|://[^\s:/@'\"]+:(?!\*\*\*|[\[{<$%])[^\s:/@'\"]+@"
    r"|(?i:password|secret|token|api_?key)['\"]?\s*[:=]\s*[\"'][^\"'\s{}]{8,}[\"']"
)
_RANDOM = re.compile(r"[A-Za-z0-9+/_-]{32,}")
# Hashes of packages, commits that actions are pinned to, and the lock of the template.
_HASHES = re.compile(r"sha256:[0-9a-f]{64}|@[0-9a-f]{40}\b")

# What stands for a secret in examples, and a key of an ASGI scope.
_PLACEHOLDERS = {"://user:password@", "://owner:password@", 'TOKEN = "app.token"'}


def _entropy(text: str) -> float:
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())


def _findings(text: str) -> list[str]:
    text = _HASHES.sub("", text)
    found = [match[0] for match in _KNOWN.finditer(text)]
    # Words that are joined by underscores have less, and so have paths.
    found += [it for it in _RANDOM.findall(text) if _entropy(it) > 4.5 and re.search(r"\d", it)]
    return [it for it in found if it not in _PLACEHOLDERS]


@pytest.mark.parametrize("name", ANSWER_SETS)
def test_nothing_that_looks_like_a_secret_is_rendered(
    make_project: Callable[[Answers], Project], name: str
) -> None:
    project = make_project(ANSWER_SETS[name])
    succeed("git", "init", "--quiet", cwd=project.folder)
    files = succeed("git", "ls-files", "--others", "--exclude-standard", cwd=project.folder)
    found = {
        path: them
        for path in files.splitlines()
        if path != "uv.lock" and (them := _findings((project.folder / path).read_text("utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "secret",
    [
        "-----BEGIN RSA PRIVATE KEY-----",
        "AKIAIOSFODNN7EXAMPLE",
        "postgresql://app:hunter2hunter2@db/app",
        'client_secret = "correct-horse"',
        "KEY=mV3kQ9xTz7LrW2pYc8BnJ5dHs1GfUa6E",
    ],
)
def test_it_would_be_found(secret: str) -> None:
    assert _findings(f"# before\n{secret}\n")
