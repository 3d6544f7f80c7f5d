"""Who a developer can be: people with more and fewer rights, and machines."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from template_tools.configuration import roles_claim
from template_tools.provider.config import ProviderConfig
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
    about: str = "Every scope, and no role."
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
        Person("ana", "Every scope, and the role admin.", roles=("admin",)),
        Person("luis", "May read, and change nothing.", may_have=_reading),
        Person("eva", "May sign in, and has no scope of the service.", may_have=_login),
        Person("nightly-job", "A machine with every scope.", is_machine=True),
        Person("dashboard", "A machine that may read.", may_have=_reading, is_machine=True),
    )
}


def person(name: str) -> Person:
    """Return somebody; a name that nobody has belongs to a person with every scope.

    Raises:
        ValueError: The name is empty, too long, or cannot be printed.
    """
    if not name.isprintable() or not 1 <= len(name) <= _NAME_LENGTH:
        raise ValueError("A name has 1 to 100 printable characters")
    return EVERYBODY.get(name) or Person(name)
