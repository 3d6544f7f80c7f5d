"""Access tokens: how they are minted, remembered, described and revoked."""

import json
import secrets
import time
import uuid
from dataclasses import dataclass, replace
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from template_tools.provider.config import ProviderConfig, TokenFormat
from template_tools.provider.keys import Claims, SigningKey

_SUBJECTS = uuid.uuid5(uuid.NAMESPACE_DNS, "development-provider.localhost")


def subject_of(username: str) -> str:
    """Return the `sub` of a user, which is stable and never the username itself."""
    return str(uuid.uuid5(_SUBJECTS, username))


class TokenRequest(BaseModel):
    """The description of an access token, for tests and for the `token` command.

    A field that is left out gets the provider's default; one that is null is left out of the
    token. Every other key becomes a claim as it stands, and replaces the claim of that name: with
    `exp` the token *says* another expiry, while `expires_in` (seconds, may be negative) decides
    whether the provider still calls it active.

    With the format "jwt" the token has every claim that RFC 9068 §2.2 requires, unless one was
    left out.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)

    username: str | None = "dev"
    sub: str | None = None
    scope: str | None = None
    audience: str | list[str] | None = None
    client_id: str | None = None
    expires_in: Annotated[int, Field(ge=-(10**9), le=10**9)] = 3600
    format: TokenFormat = "opaque"

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        """Refuse what JSON cannot carry, such as NaN and unpaired surrogates."""
        json.dumps(self.model_dump(), allow_nan=False, ensure_ascii=False).encode()
        return self


@dataclass(frozen=True)
class Token:
    """An issued access token; `expires_at` is in Unix seconds."""

    value: str
    claims: Claims
    expires_at: float
    revoked: bool = False

    @property
    def active(self) -> bool:
        """Whether the token is neither expired nor revoked."""
        return not self.revoked and time.time() < self.expires_at


class TokenStore:
    """The tokens of one provider."""

    def __init__(self, config: ProviderConfig) -> None:
        self._config = config
        self._tokens: dict[str, Token] = {}
        self.key = SigningKey()

    def mint(self, request: TokenRequest) -> Token:
        """Issue the token that `request` describes."""
        claims = self._claims(request)
        chosen = "format" in request.model_fields_set
        is_jwt = (request.format if chosen else self._config.token_format) == "jwt"
        value = self._signed(claims, request) if is_jwt else secrets.token_urlsafe(32)
        token = Token(value, claims, time.time() + request.expires_in)
        self._tokens[value] = token
        return token

    def get(self, value: str) -> Token | None:
        """Return a token that is still remembered, active or not."""
        return self._tokens.get(value)

    def describe(self, value: str) -> Claims:
        """Return the introspection response for a token (RFC 7662 §2.2)."""
        token = self.get(value)
        if token is None or not token.active:
            return {"active": False}
        return {"active": True, "token_type": "Bearer", **token.claims}

    def revoke(self, value: str) -> None:
        """Make a token inactive; an unknown one is ignored."""
        if token := self.get(value):
            self._tokens[value] = replace(token, revoked=True)

    def clear(self) -> None:
        """Forget every token."""
        self._tokens.clear()

    def _signed(self, claims: Claims, request: TokenRequest) -> str:  # noqa: ARG002
        return self.key.sign(claims, typ="at+jwt")

    def _claims(self, request: TokenRequest) -> Claims:
        now = int(time.time())
        given = request.model_fields_set
        config = self._config
        audience = request.audience if "audience" in given else config.audience
        username = request.username
        claims: Claims = {
            "iss": config.issuer,
            "sub": request.sub if "sub" in given else username and subject_of(username),
            "username": username,
            "aud": list(audience) if isinstance(audience, list) else audience,
            "client_id": request.client_id if "client_id" in given else config.client_id,
            "scope": request.scope if "scope" in given else config.default_scope,
            "iat": now,
            "nbf": now,
            "exp": now + request.expires_in,
            "jti": secrets.token_urlsafe(16),
        }
        claims |= request.__pydantic_extra__
        return {name: value for name, value in claims.items() if value is not None}
