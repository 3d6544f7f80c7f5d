"""Who a developer can be: people with more and fewer rights, and machines."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from template_tools.configuration import roles_claim
from template_tools.messages import _
from template_tools.provider.config import ProviderConfig
from template_tools.provider.forms import OAuthError
from template_tools.provider.keys import Claims

_LOGIN_SCOPES = ProviderConfig.default_scope.split()
_NAME_LENGTH = 100


def _every(_scope: str) -> bool:
    return True


def _login(scope: str) -> bool:
    return scope in _LOGIN_SCOPES


def _reading(scope: str) -> bool:
    return _login(scope) or "read" in re.split(r"[^a-z]", scope.lower())


@dataclass(frozen=True)
class Person:
    """Somebody who gets tokens; a machine gets them for itself, as with client credentials."""

    name: str
    about: str = _("Every scope, and no role.")
    roles: tuple[str, ...] = ()
    may_have: Callable[[str], bool] = _every
    """Whether a scope is granted."""
    is_machine: bool = False

    def scopes(self, of_routes: Iterable[str]) -> list[str]:
        """Return the scopes of a token for everything that this person may do."""
        login = [] if self.is_machine else _LOGIN_SCOPES
        return [scope for scope in [*login, *of_routes] if self.may_have(scope)]

    def claims(self, scope: str) -> Claims:
        """Return the fields of a `TokenRequest` for a token with this scope."""
        claims: Claims = {"username": self.name, "scope": scope or None}
        if self.is_machine:
            # Without a user the subject is the client itself (RFC 9068 §2.2).
            claims |= {"username": None, "sub": self.name, "client_id": self.name}
        if self.roles:
            claims[roles_claim()] = [*self.roles]
        return claims


EVERYBODY = {
    it.name: it
    for it in (
        Person("dev"),
        Person("ana", _("Every scope, and the role admin."), roles=("admin",)),
        Person("luis", _("May read, and change nothing."), may_have=_reading),
        Person("eva", _("May sign in, and has no scope of the service."), may_have=_login),
        Person("nightly-job", _("A machine with every scope."), is_machine=True),
        Person("dashboard", _("A machine that may read."), may_have=_reading, is_machine=True),
    )
}


def person(name: str, error: str = "invalid_request") -> Person:
    """Return somebody; a name that nobody has belongs to a person with every scope.

    Raises:
        OAuthError: The name is empty, too long, or cannot be printed; its code is `error`.
    """
    if not name.isprintable() or not 1 <= len(name) <= _NAME_LENGTH:
        raise OAuthError(error, "A name has 1 to 100 printable characters.")
    return EVERYBODY.get(name) or Person(name)
