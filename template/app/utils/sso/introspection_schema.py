"""What the identity provider says about a token."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

type Timestamp = Annotated[StrictInt | StrictFloat, Field(allow_inf_nan=False)]
"""Seconds since 1970-01-01T00:00Z. The RFC says integer; some providers send fractions."""


class TokenData(BaseModel):
    """The introspection response (RFC 7662 §2.2).

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
    exp: Timestamp | None = None
    iat: Timestamp | None = None
    nbf: Timestamp | None = None
    jti: StrictStr | None = None
    token_type: StrictStr | None = None

    @property
    def scopes(self) -> frozenset[str]:
        """What the token allows, whichever way the provider writes it."""
        if isinstance(self.scope, list):
            return frozenset(self.scope)
        return frozenset((self.scope or "").split())

    @property
    def audiences(self) -> frozenset[str]:
        """The services that the token was made for."""
        if isinstance(self.aud, list):
            return frozenset(self.aud)
        return frozenset() if self.aud is None else frozenset({self.aud})

    @property
    def subject(self) -> str | None:
        """Who the token speaks for: a person, or a client that acts for itself."""
        return self.sub or self.username or self.client_id
