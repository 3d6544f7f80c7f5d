"""Tokens of any algorithm and type."""

import time
from collections.abc import Callable

from template_tools.provider import tokens
from template_tools.provider.keys import Claims
from template_tools.provider.tokens import Token
from tests.service.provider.clients import ProviderConfig
from tests.service.provider.keys import Algorithm, SigningKeys


class TokenRequest(tokens.TokenRequest):
    """The description of an access token, with the header of a JWT and the type in a response."""

    algorithm: Algorithm = "RS256"
    header_typ: str | None = "at+jwt"
    token_type: str | None = "Bearer"


class TokenStore(tokens.TokenStore):
    """The tokens of one provider, which can call garbage active."""

    def __init__(self, config: ProviderConfig, always_active: Callable[[], bool]) -> None:
        """Start without tokens and with new keys."""
        super().__init__(config)
        self.key: SigningKeys = SigningKeys()
        self._always_active = always_active
        self._types: dict[str, str | None] = {}

    def mint(self, request: tokens.TokenRequest) -> Token:
        """Issue the token that `request` describes."""
        token = super().mint(request)
        if isinstance(request, TokenRequest):
            self._types[token.value] = request.token_type
        return token

    def issue(self, claims: Claims, typ: str | None) -> Token:
        """Issue a JWT of exactly these claims, which introspection repeats."""
        value = self.key.sign(claims, typ=typ)
        self._tokens[value] = Token(value, claims, time.time() + 3600)
        return self._tokens[value]

    def describe(self, value: str) -> Claims:
        """Return the introspection response for a token (RFC 7662 §2.2)."""
        token = self.get(value)
        if (token is None or not token.active) and self._always_active():
            return self.describe(self.mint(TokenRequest()).value)
        description = super().describe(value)
        if value in self._types and description["active"]:
            description["token_type"] = self._types[value]
        return {name: member for name, member in description.items() if member is not None}

    def clear(self) -> None:
        """Forget every token, and the keys that no longer sign."""
        super().clear()
        self._types.clear()
        self.key.forget_retired()

    def _signed(self, claims: Claims, request: tokens.TokenRequest) -> str:
        if not isinstance(request, TokenRequest):
            return super()._signed(claims, request)
        return self.key.sign(claims, algorithm=request.algorithm, typ=request.header_typ)
