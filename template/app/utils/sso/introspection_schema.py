"""The token, as a route sees it."""

from collections.abc import Mapping
from typing import Annotated, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
)

type NumericDate = Annotated[StrictInt | StrictFloat, Field(allow_inf_nan=False)]
"""Seconds since 1970-01-01T00:00Z. The RFC says integer; some providers send fractions."""


class ClaimNames(NamedTuple):
    """Which claims the settings choose: names, or paths such as ``realm_access.roles``."""

    subject: str = "sub"
    roles: str = "roles"


class TokenData(BaseModel):
    """The introspection response (RFC 7662 §2.2), or the claims of a verified JWT (RFC 9068 §2.2).

    Every member but ``active`` is optional there, and the providers differ in which they send.
    Members that are not listed here stay readable in ``model_extra``.
    """

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    active: StrictBool
    sub: StrictStr | None = None
    username: StrictStr | None = None
    client_id: StrictStr | None = None
    scope: StrictStr | list[StrictStr] | None = None
    aud: StrictStr | list[StrictStr] | None = None
    iss: StrictStr | None = None
    exp: NumericDate | None = None
    iat: NumericDate | None = None
    nbf: NumericDate | None = None
    jti: StrictStr | None = None
    token_type: StrictStr | None = None

    _names: ClaimNames = PrivateAttr(default=ClaimNames())

    @classmethod
    def read(cls, members: Mapping[str, object], names: ClaimNames) -> Self:
        """Return the token that ``members`` describe.

        Raises:
            ValueError: One of them is not of the type that the RFC says.
        """
        try:
            token = cls.model_validate(members)
        except OverflowError:
            raise ValueError("a time that no float can hold") from None
        token._names = names
        return token

    @property
    def scopes(self) -> frozenset[str]:
        """What the token allows, as a set, however the provider writes it."""
        scope = self.scope if self.scope is not None else self.claim("scp")
        return _words(scope)

    @property
    def audiences(self) -> frozenset[str]:
        """The services that the token was made for."""
        if isinstance(self.aud, list):
            return frozenset(self.aud)
        return frozenset() if self.aud is None else frozenset({self.aud})

    @property
    def subject(self) -> str | None:
        """Who the token speaks for: a person, or a client that acts for itself.

        ``SSO_SUBJECT_CLAIM`` chooses the claim; a token without it has ``sub``, ``username`` or
        ``client_id``, in this order.
        """
        chosen = self.claim(self._names.subject)
        if isinstance(chosen, str) and chosen:
            return chosen
        return self.sub or self.username or self.client_id

    @property
    def roles(self) -> frozenset[str]:
        """The roles in the claim that ``SSO_ROLES_CLAIM`` chooses.

        Providers write them as a list, as words in a string, or as the keys of an object.
        """
        return _words(self.claim(self._names.roles))

    def claim(self, name: str) -> object:
        """Return a member by its exact name, or by a path such as ``realm_access.roles``.

        It is None where the token has no such member.
        """
        return _find(self.__dict__ | (self.model_extra or {}), name)


def _find(members: object, path: str) -> object:
    """Follow a path; where a name with dots exists, it takes precedence."""
    if not isinstance(members, dict):
        return None
    names = path.split(".")
    for size in range(len(names), 0, -1):
        if (name := ".".join(names[:size])) in members:
            found = members[name]
            return found if size == len(names) else _find(found, ".".join(names[size:]))
    return None


def _words(value: object) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list | dict):
        return frozenset(word for word in value if isinstance(word, str))
    return frozenset()
