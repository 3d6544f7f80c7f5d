"""Run the development provider, or print a token of the one that runs."""

import sys
from pathlib import Path

from template_tools.arguments import ArgumentParser
from template_tools.loopback import NO_ANSWER, request
from template_tools.messages import _
from template_tools.provider.config import ProviderError
from template_tools.provider.serve import serve_until_stopped
from template_tools.token_command import STATE_FILE, ProviderAddress, add_options, print_token


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; errors are one sentence on standard error."""
    options = _parser().parse_args(arguments)
    if options.command == "token":
        return print_token(options)
    try:
        serve_until_stopped(options.port, options.state_file)
    except ProviderError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def running_provider_url() -> str | None:
    """Return the issuer of this project's provider, if it still runs."""
    try:
        issuer = ProviderAddress.read(STATE_FILE).issuer
        request(f"{issuer}/jwks")
    except NO_ANSWER:
        return None
    return issuer


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m template_tools.provider",
        description=_("Run the development identity provider."),
    )
    parser.add_argument("--port", type=int, default=9000, help=_("the port (0: any free one)"))
    where = _("tells the token command where it runs")
    parser.add_argument("--state-file", type=Path, help=where)
    commands = parser.add_subparsers(dest="command", metavar="token")
    token = _("print a bearer token of the running provider")
    add_options(commands.add_parser("token", help=token))
    return parser


if __name__ == "__main__":
    sys.exit(main())
