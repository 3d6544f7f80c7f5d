"""What a real identity provider must offer to be tried against a rendered service.

A provider is a module of this folder with a ``PROVIDER``; the tests find it by that name.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol

from tests.debian import NotInstallable

__all__ = [
    "IdentityProvider",
    "Mode",
    "NotInstallable",
    "RunningIdentityProvider",
]

type Mode = Literal["introspect", "jwt", "both"]


class RunningIdentityProvider(Protocol):
    """A provider that answers on the loopback interface, with a client of the service."""

    @property
    def settings(self) -> Mapping[str, str]:
        """The service's settings for this provider, as environment variables.

        ``SSO_ISSUER``, ``SSO_AUDIENCE``, ``CLIENT_ID``, ``CLIENT_SECRET``, and those among the
        optional ones that it needs, such as ``CLIENT_AUTH_METHOD``.
        """
        ...

    def token(self, mode: Mode) -> str:
        """Return a new access token made for the service: a JWT where ``mode`` needs one."""
        ...

    def token_for_another_audience(self, mode: Mode) -> str:
        """Return a new access token that is good, and made for another service."""
        ...

    def revoke(self, token: str) -> None:
        """Revoke a token at the provider."""
        ...


class IdentityProvider(Protocol):
    """A provider that can be installed from a package registry."""

    name: str
    """As its users write it."""

    source: str
    """Where it is installed from, and its version: ``npm 9.5.0``."""

    modes: Mapping[Mode, str]
    """The modes of ``SSO_MODE`` that it can serve, each with the empty string; a mode that it
    cannot serve has the reason instead, in a few words for a table."""

    claims: Mapping[str, object]
    """Members that ``token_data`` must have for a token of ``token()``, such as ``username``."""

    signs_responses: bool
    """Whether it signs its introspection responses where that is asked for (RFC 9701)."""

    def install(self, folder: Path) -> None:
        """Install it into ``folder``, which later runs may find filled.

        Raises:
            NotInstallable: The machine lacks something.
        """
        ...

    def start(self, folder: Path) -> AbstractContextManager[RunningIdentityProvider]:
        """Run what ``install`` put into ``folder`` until the context ends."""
        ...
