"""`uv run poe token`: print a bearer token of the provider that `uv run poe dev` runs.

Each `curl` may call it, so it imports nothing that takes long.
"""

import argparse
import base64
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote_plus

from template_tools.arguments import ArgumentParser
from template_tools.configuration import PROJECT_ROOT, roles_claim
from template_tools.loopback import NO_ANSWER, request
from template_tools.messages import Problem, _, translated

STATE_FILE = PROJECT_ROOT / ".dev" / "provider.json"


class TokenError(Problem):
    """A sentence for the developer: why there is no token, and what to do about it."""


@dataclass(frozen=True)
class ProviderAddress:
    """Where a provider runs, and how its registered client authenticates there."""

    issuer: str
    client_id: str
    client_secret: str

    @classmethod
    def read(cls, state_file: Path) -> Self:
        """Read the state file of a provider; raise OSError or ValueError where there is none."""
        state = json.loads(state_file.read_bytes())
        try:
            return cls(*(str(state[name]) for name in cls.__annotations__))
        except (KeyError, TypeError) as error:
            raise ValueError("The state file is incomplete.") from error

    def credentials(self) -> dict[str, str]:
        """Return the header of client_secret_basic (RFC 6749 §2.3.1)."""
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def main(arguments: list[str] | None = None) -> int:
    """Print a token and return the exit code; errors are one sentence on standard error."""
    parser = ArgumentParser(prog="uv run poe token", description=_("Print a bearer token."))
    add_options(parser)
    return print_token(parser.parse_args(arguments))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the options of the command."""
    who = parser.add_mutually_exclusive_group()
    who.add_argument(
        "--as",
        dest="name",
        default="dev",
        help=_(
            "one of the people and machines of the development page, or any name (default: dev)"
        ),
    )
    who.add_argument("--username", help=_("a user with this name, and the scopes and roles of dev"))
    parser.add_argument("--scope", help=_("the scopes, separated by spaces, instead of all"))
    parser.add_argument("--role", action="append", help=_("a role of the user; may be repeated"))
    parser.add_argument("--audience", action="append", help=_("the audience; may be repeated"))
    signed = _("a signed JWT instead of an opaque one")
    parser.add_argument("--jwt", action="store_true", help=signed)
    parser.add_argument("--expires-in", type=int, default=3600, help=_("seconds (default: 3600)"))
    parser.add_argument("--state-file", type=Path, default=STATE_FILE, help=argparse.SUPPRESS)


def print_token(options: argparse.Namespace) -> int:
    """Print the token on standard output, and what to know about it on standard error."""
    try:
        token, notes = _ask(options.state_file, options.name, _wanted(options))
    except TokenError as error:
        print(error, file=sys.stderr)
        return 1
    for note in notes:
        print(note, file=sys.stderr)
    print(token)
    return 0


def _wanted(options: argparse.Namespace) -> dict[str, object]:
    """Return what replaces the defaults of whoever the token is for."""
    wanted: dict[str, object] = {"expires_in": options.expires_in}
    if options.username is not None:
        wanted["username"] = options.username
    if options.role:
        wanted[roles_claim()] = options.role
    if options.scope is not None:
        wanted["scope"] = options.scope
    if options.audience:
        several = len(options.audience) > 1
        wanted["audience"] = options.audience if several else options.audience[0]
    if options.jwt:
        wanted["format"] = "jwt"
    return wanted


def _ask(state_file: Path, name: str, wanted: dict[str, object]) -> tuple[str, list[str]]:
    """Return a token from the provider, and its notes."""
    try:
        provider = ProviderAddress.read(state_file)
        status, body = request(
            f"{provider.issuer}/dev/tokens?as={quote_plus(name)}",
            method="POST",
            body=json.dumps(wanted).encode(),
            headers=provider.credentials(),
        )
        answer = json.loads(body)
        if status == 400:
            # OAuth has it answer in ASCII, and so in English.
            reason = translated(answer["error_description"]).removesuffix(".")
            raise TokenError("The provider refuses this token: {reason}.", reason=reason)
        return answer["access_token"], answer.get("notes", [])
    except (*NO_ANSWER, KeyError, TypeError) as error:
        raise TokenError(
            "The development identity provider is not running: "
            "start it with `uv run poe dev` in another terminal, then try again."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
