"""Tokens: how they are minted, remembered, described and revoked."""

import json
import secrets
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from template_tools.provider.config import ProviderConfig, TokenFormat
from template_tools.provider.keys import Algorithm, Claims, SigningKeys

_MAX_ENTRIES = 10_000
_SUBJECTS = uuid.uuid5(uuid.NAMESPACE_DNS, "development-provider.localhost")


def subject_of(username: str) -> str:
    """Return the subject of a username: stable, and different so that nobody mixes them up."""
    return str(uuid.uuid5(_SUBJECTS, username))


class Bounded[T](OrderedDict[str, T]):
    """A mapping that forgets its oldest entries, so that a long session cannot fill the memory."""

    def __setitem__(self, key: str, value: T) -> None:
        """Store a value and drop the oldest one beyond the limit."""
        super().__setitem__(key, value)
        while len(self) > _MAX_ENTRIES:
            self.popitem(last=False)


class TokenRequest(BaseModel):
    """A wish for any access token, however odd, for tests and for the `token` command.

    A field that is left out gets the provider's default; one that is null is left out of the
    token. Every other key becomes a claim as it stands, and replaces the claim of that name: with
    `exp` the token *says* another expiry, while `expires_in` (seconds, may be negative) decides
    whether the provider still calls it active.

    With the format "jwt" the token has every claim that RFC 9068 §2.2 requires, unless one was
    left out, and `header_typ` is the `typ` of its header.
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
    algorithm: Algorithm = "RS256"
    header_typ: str | None = "at+jwt"
    token_type: str | None = "Bearer"  # noqa: S105 - the name of a type, not a secret.

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        """Refuse what JSON cannot carry, such as NaN and unpaired surrogates."""
        json.dumps(self.model_dump(), allow_nan=False, ensure_ascii=False).encode()
        return self


@dataclass(frozen=True)
class Token:
    """One issued token. `grant` ties it to the others of the same login; times are Unix seconds."""

    value: str
    kind: Literal["access", "refresh"]
    claims: Claims
    token_type: str | None
    client_id: str | None
    grant: str
    expires_at: float
    resources: Sequence[str] = ()
    revoked: bool = False

    @property
    def active(self) -> bool:
        """Whether the provider still vouches for this token."""
        return not self.revoked and time.time() < self.expires_at


class TokenStore:
    """Every token of this process. It is safe to use from the server's thread and from a test's."""

    def __init__(self, config: ProviderConfig) -> None:
        """Start with no tokens and with fresh keys."""
        self._config = config
        self._tokens: Bounded[Token] = Bounded()
        self._lock = threading.Lock()
        self.keys = SigningKeys()

    def mint(
        self, request: TokenRequest, grant: str | None = None, resources: Sequence[str] = ()
    ) -> Token:
        """Make and remember an access token; `resources` are kept for the tokens that follow it."""
        claims = self._claims(request)
        value = secrets.token_urlsafe(32)
        chosen = "format" in request.model_fields_set
        if (request.format if chosen else self._config.token_format) == "jwt":
            typ = request.header_typ
            value = self.keys.sign(claims, algorithm=request.algorithm, typ=typ)
        client_id = claims.get("client_id")
        token = Token(
            value=value,
            kind="access",
            claims=claims,
            token_type=request.token_type,
            client_id=client_id if isinstance(client_id, str) else None,
            grant=grant or secrets.token_urlsafe(16),
            expires_at=time.time() + request.expires_in,
            resources=resources,
        )
        return self._remember(token)

    def mint_refresh(self, access: Token, scope: str) -> Token:
        """Make and remember an opaque refresh token that renews `access`, up to `scope`."""
        lifetime = self._config.refresh_token_lifetime
        own: Claims = {
            "scope": scope,
            "exp": int(time.time()) + lifetime,
            "jti": secrets.token_urlsafe(16),
        }
        token = replace(
            access,
            value=secrets.token_urlsafe(32),
            kind="refresh",
            claims=access.claims | own,
            token_type="refresh_token",  # noqa: S106 - the name of a type, not a secret.
            expires_at=time.time() + lifetime,
        )
        return self._remember(token)

    def get(self, value: str) -> Token | None:
        """Return a token that is still remembered, active or not."""
        return self._tokens.get(value)

    def describe(self, value: str) -> Claims:
        """Return the introspection response for a token (RFC 7662 §2.2)."""
        token = self.get(value)
        if token is None or not token.active:
            return {"active": False}
        kind: Claims = {"token_type": token.token_type} if token.token_type is not None else {}
        return {"active": True, **kind, **token.claims}

    def revoke(self, value: str) -> None:
        """Make a token inactive; a refresh token takes the tokens of its login along."""
        token = self.get(value)
        if token is not None and token.kind == "refresh":
            self.revoke_grant(token.grant)
        elif token is not None:
            self.retire(token)

    def revoke_grant(self, grant: str) -> None:
        """Make every token of one login inactive (RFC 6749 §4.1.2, RFC 7009 §2.1)."""
        with self._lock:
            for value, token in list(self._tokens.items()):
                if token.grant == grant:
                    self._tokens[value] = replace(token, revoked=True)

    def retire(self, token: Token) -> None:
        """Make this one token inactive, and no other of its login."""
        self._remember(replace(token, revoked=True))

    def clear(self) -> None:
        """Forget every token, and the keys that no longer sign."""
        with self._lock:
            self._tokens.clear()
        self.keys.forget_retired()

    def rotate_keys(self, *, keep_old: bool) -> None:
        """Sign with new keys from now on; `keep_old` goes on publishing the ones before."""
        self.keys = SigningKeys(self.keys.public() if keep_old else ())

    def _remember(self, token: Token) -> Token:
        with self._lock:
            self._tokens[token.value] = token
        return token

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
