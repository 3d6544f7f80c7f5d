"""Tokens: how they are minted, signed, remembered, described and revoked."""

import json
import secrets
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from devtools.provider.config import ProviderConfig, TokenFormat

Claims = dict[str, JsonValue]
Algorithm = Literal["RS256", "ES256"]
_JWS = jwt.PyJWS()
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


class SigningKeys:
    """One RSA and one P-256 key, made when the provider starts and known to nobody else."""

    def __init__(self) -> None:
        """Generate both keys; their identifiers are new each time."""
        self._rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._ec = ec.generate_private_key(ec.SECP256R1())
        self._suffix = secrets.token_hex(4)

    def sign(self, claims: Claims, *, algorithm: Algorithm = "RS256", typ: str = "JWT") -> str:
        """Return a compact JWS whose header carries `typ` and the key's identifier."""
        key = self._rsa if algorithm == "RS256" else self._ec
        headers = {"typ": typ, "kid": self._key_id(algorithm)}
        # PyJWT's own `encode` refuses odd claims, such as an `iss` that is a number.
        return _JWS.encode(json.dumps(claims).encode(), key, algorithm, headers)

    def jwks(self) -> Claims:
        """Return the public keys as a JWK Set (RFC 7517 §5)."""
        rsa_key = RSAAlgorithm.to_jwk(self._rsa.public_key(), as_dict=True)
        ec_key = ECAlgorithm.to_jwk(self._ec.public_key(), as_dict=True)
        return {"keys": [self._published(rsa_key, "RS256"), self._published(ec_key, "ES256")]}

    def _published(self, key: Claims, algorithm: Algorithm) -> Claims:
        # PyJWT writes key_ops, which RFC 7517 §4.3 does not want beside use.
        members = {name: value for name, value in key.items() if name != "key_ops"}
        return {**members, "use": "sig", "alg": algorithm, "kid": self._key_id(algorithm)}

    def _key_id(self, algorithm: Algorithm) -> str:
        return f"{algorithm.lower()}-{self._suffix}"


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
            value = self.keys.sign(claims, algorithm=request.algorithm, typ="at+jwt")
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
        """Forget every token."""
        with self._lock:
            self._tokens.clear()

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
