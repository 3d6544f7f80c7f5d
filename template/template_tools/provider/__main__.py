"""Run the development provider, or print a token of the one that runs."""

import argparse
import sys
from pathlib import Path

import httpx2
from pydantic import BaseModel, ValidationError

from template_tools.configuration import PROJECT_ROOT, configured
from template_tools.provider.config import ProviderError
from template_tools.provider.serve import serve_until_stopped

STATE_FILE = PROJECT_ROOT / ".dev" / "provider.json"
_NO_PROVIDER = (OSError, ValidationError, httpx2.HTTPError, httpx2.InvalidURL)


class _State(BaseModel):
    """The state file of a running provider."""

    issuer: str
    client_id: str
    client_secret: str


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; errors are one sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "token":
            print(_mint(options))
        else:
            serve_until_stopped(options.port, options.state_file)
    except ProviderError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def running_provider_url() -> str | None:
    """Return the issuer of this project's provider, if it still runs."""
    try:
        state = _State.model_validate_json(STATE_FILE.read_bytes())
        httpx2.get(f"{state.issuer}/jwks", trust_env=False)
    except _NO_PROVIDER:
        return None
    return state.issuer


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m template_tools.provider",
        description="Run the development identity provider.",
    )
    parser.add_argument("--port", type=int, default=9000, help="the port (0: any free one)")
    parser.add_argument("--state-file", type=Path, help="tells the token command where it runs")
    commands = parser.add_subparsers(dest="command", metavar="token")
    token = commands.add_parser("token", help="print a bearer token of the running provider")
    token.add_argument("--username", default="dev", help="the user (default: dev)")
    token.add_argument("--scope", help="the scopes, separated by spaces")
    token.add_argument("--role", action="append", help="a role of the user; may be repeated")
    token.add_argument("--audience", action="append", help="the audience; may be repeated")
    token.add_argument("--jwt", action="store_true", help="a signed JWT instead of an opaque one")
    token.add_argument("--expires-in", type=int, default=3600, help="seconds (default: 3600)")
    token.add_argument("--state-file", type=Path, default=STATE_FILE, help=argparse.SUPPRESS)
    return parser


def _mint(options: argparse.Namespace) -> str:
    wanted = {"username": options.username, "expires_in": options.expires_in}
    if options.role:
        # The service takes a name with dots for a name first, and for a path if there is none.
        wanted[configured("SSO_ROLES_CLAIM") or "roles"] = options.role
    if options.scope is not None:
        wanted["scope"] = options.scope
    if options.audience:
        several = len(options.audience) > 1
        wanted["audience"] = options.audience if several else options.audience[0]
    if options.jwt:
        wanted["format"] = "jwt"
    try:
        state = _State.model_validate_json(options.state_file.read_bytes())
        response = httpx2.post(
            f"{state.issuer}/dev/tokens",
            json=wanted,
            auth=(state.client_id, state.client_secret),
            # A proxy from the environment must never see a request to this machine.
            trust_env=False,
        )
        body: dict[str, str] = response.json()
        if response.status_code == 400:
            raise ProviderError(f"The provider refuses this token: {body['error_description']}.")
        return body["access_token"]
    except (*_NO_PROVIDER, ValueError, KeyError, TypeError) as error:
        raise ProviderError(
            "The development identity provider is not running: "
            "start it with `uv run poe dev` in another terminal, then try again."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
