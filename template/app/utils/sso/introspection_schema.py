"""The token, as a route sees it."""

from collections.abc import Mapping
from typing import Annotated, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
)

# The last second of the year 9999. Nothing later was ever meant as a time in seconds.
_END_OF_TIME = 253_402_300_799
# Other names of client_id: OpenID Connect's, Entra ID's and Okta's.
_CLIENT_CLAIMS = ("client_id", "azp", "appid", "cid")


def _seconds(value: object) -> object:
    if isinstance(value, int | float) and value > _END_OF_TIME:
        return value / 1000
    return value


def _identifier(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _is_true(value: object) -> object:
    return None if value is None else value is True


type NumericDate = Annotated[
    StrictInt | StrictFloat, Field(allow_inf_nan=False, le=_END_OF_TIME), BeforeValidator(_seconds)
]
"""Seconds since 1970-01-01T00:00Z. RFC 7662 says integer; some providers send fractions, or
milliseconds, which are divided."""
type Identifier = Annotated[StrictStr, BeforeValidator(_identifier)]
"""A name that the provider gives; some send an integer, which is read as its digits."""


class ClaimNames(NamedTuple):
    """Which claims the settings choose: names, or paths such as ``realm_access.roles``."""

    subject: str = "sub"
    roles: str = "roles"


_USUAL_NAMES = ClaimNames()


class TokenData(BaseModel):
    """The introspection response (RFC 7662 §2.2), or the claims of a verified JWT (RFC 9068 §2.2).

    Every member but ``active`` is optional there, and the providers differ in which they send.
    Members that are not listed here stay readable in ``model_extra``.
    """

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    active: StrictBool
    sub: Identifier | None = None
    username: Identifier | None = None
    client_id: Identifier | None = None
    scope: StrictStr | list[StrictStr] | None = None
    aud: StrictStr | list[StrictStr] | None = None
    iss: StrictStr | None = None
    exp: NumericDate | None = None
    iat: NumericDate | None = None
    nbf: NumericDate | None = None
    jti: Identifier | None = None
    token_type: StrictStr | None = None
    # Only true is true: "false" is a text that Python would take for it.
    email_verified: Annotated[bool | None, BeforeValidator(_is_true)] = None

    _names: ClaimNames = PrivateAttr(default_factory=ClaimNames)

    @classmethod
    def read(cls, members: Mapping[str, object], names: ClaimNames) -> Self:
        """Return the token that ``members`` describe: those of a response, or signed claims.

        Raises:
            ValueError: One of them is not of the type that the RFC says.
        """
        client = next((members[name] for name in _CLIENT_CLAIMS if members.get(name)), None)
        try:
            token = cls.model_validate({**members, "client_id": client})
        except OverflowError:
            raise ValueError("a time that no float can hold") from None
        token._names = names
        return token

    @property
    def _claim_names(self) -> ClaimNames:
        # Pydantic finds a private attribute by way of exceptions, at each access.
        names: ClaimNames = (self.__pydantic_private__ or {}).get("_names", _USUAL_NAMES)
        return names

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
        """Who the token speaks for, by the claim that ``SSO_SUBJECT_CLAIM`` chooses.

        A token without it speaks for nobody that can be told apart: no other claim takes its place,
        because a username and a client may have the name that is somebody else's identifier.
        """
        chosen = _identifier(self.claim(self._claim_names.subject))
        return chosen if isinstance(chosen, str) and chosen else None

    @property
    def roles(self) -> frozenset[str]:
        """The roles in the claim that ``SSO_ROLES_CLAIM`` chooses.

        Providers write them as a list, as words in a string, or as the members of an object that
        are true, or that say where the role was granted (Zitadel).
        """
        roles = self.claim(self._claim_names.roles)
        if isinstance(roles, dict):
            return frozenset(role for role, granted in roles.items() if _is_granted(granted))
        return _words(roles)

    def claim(self, name: str) -> object:
        """Return a member by its exact name, or by a path such as ``realm_access.roles``.

        It is None where the token has no such member.
        """
        others = self.model_extra or {}
        for members in (self.__dict__, others):
            if name in members:
                return members[name]
        return _find(self.__dict__ | others, name)


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
        # Only at a space (RFC 6749 §3.3): str.split() alone would also split at a no-break space.
        value = value.split(" ")
    if isinstance(value, list):
        return frozenset(word for word in value if isinstance(word, str) and word)
    return frozenset()


def _is_granted(value: object) -> bool:
    # Zitadel's value is an object of the organisations that grant the role, with their domains.
    domains = value.values() if isinstance(value, dict) else ()
    return value is True or (bool(domains) and all(isinstance(it, str) and it for it in domains))
