"""What the development provider is configured with, and where it refuses to run."""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import urlsplit

LOOPBACK_HOSTS = ("127.0.0.1", "localhost")
LOOPBACK_ORIGIN = r"http://(?:127\.0\.0\.1|localhost)(?::[0-9]{1,5})?"
_CLIENT_ID = re.compile(r"[\x20-\x7e]{1,100}")

TokenFormat = Literal["opaque", "jwt"]
ClientAuthMethod = Literal[
    "client_secret_basic",
    "client_secret_basic_raw",
    "client_secret_post",
    "private_key_jwt",
    "tls_client_auth",
]


class ProviderError(Exception):
    """A sentence for the developer: what is wrong and what to do about it."""


@dataclass(frozen=True)
class ProviderConfig:
    """The provider's identity, and the one confidential client registered with it.

    `issuer` is a loopback URL, with or without a path and without a trailing slash. `audience` is
    the `aud` of every token that was asked for without a `resource`. `docs_client_id` names the
    public client of the docs page's Authorize button. Lifetimes are in seconds.

    The registered client may authenticate with its secret, with an assertion signed by the key
    whose public half is `client_public_key` (PEM), and over https with a certificate whose common
    name is the `client_id`. A `client_auth_method` refuses every other one: the names are those of
    OpenID Connect Core §9 and RFC 8705 §2.1.1, and `client_secret_basic_raw` is Basic without the
    urlencoding that RFC 6749 §2.3.1 asks for, which many clients forget.

    Raises ProviderError when the issuer is not a loopback URL, an identifier is empty, or the
    client lacks the means for its method.
    """

    issuer: str = "http://127.0.0.1:9000"
    audience: str = "app"
    client_id: str = "app"
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    client_public_key: str | None = None
    client_auth_method: ClientAuthMethod | None = None
    docs_client_id: str = "docs"
    token_format: TokenFormat = "opaque"  # noqa: S105 - a format, not a secret.
    access_token_lifetime: int = 3600
    refresh_token_lifetime: int = 8 * 3600
    default_scope: str = "openid profile email"

    def __post_init__(self) -> None:
        """Refuse what would make a provider that is unsafe or that nobody can use."""
        _require_loopback(self.issuer)
        for name in ("client_id", "docs_client_id"):
            if not _CLIENT_ID.fullmatch(getattr(self, name)):
                raise ProviderError(f"The provider's {name} must be 1 to 100 ASCII characters.")
        if not self.client_secret or not self.audience:
            raise ProviderError("The provider needs a client_secret and an audience: set both.")
        if self.client_id == self.docs_client_id:
            raise ProviderError("The provider's client_id and docs_client_id must differ.")
        if self.token_format not in ("opaque", "jwt"):
            raise ProviderError('The provider\'s token_format must be "opaque" or "jwt".')
        self._require_means()

    def _require_means(self) -> None:
        methods = get_args(ClientAuthMethod)
        if self.client_auth_method not in (None, *methods):
            raise ProviderError(f"The provider's client_auth_method must be one of {methods}.")
        if self.client_auth_method == "private_key_jwt" and self.client_public_key is None:
            raise ProviderError("With private_key_jwt the provider needs a client_public_key.")

    @property
    def issuer_path(self) -> str:
        """The path of the issuer, under which every endpoint lies; empty for most issuers."""
        return urlsplit(self.issuer).path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "ProviderConfig":
        """Read DEV_PROVIDER_AUDIENCE, _CLIENT_ID, _CLIENT_SECRET, _DOCS_CLIENT_ID, _TOKEN_FORMAT.

        An unset or empty variable keeps the default; the default secret is a random one.
        """
        names = ("audience", "client_id", "client_secret", "docs_client_id", "token_format")
        found = {name: environment.get(f"DEV_PROVIDER_{name.upper()}", "") for name in names}
        # An unknown token format is refused by __post_init__.
        return cls(**{name: value for name, value in found.items() if value})  # type: ignore[arg-type]


def refuse_production() -> None:
    """Raise ProviderError in production: anyone can log in here as anyone."""
    if os.environ.get("ENVIRONMENT", "").strip().lower() == "production":
        raise ProviderError(
            "The development provider refuses to start because ENVIRONMENT is production: "
            "set SSO_ISSUER to your real identity provider."
        )


def _require_loopback(issuer: str) -> None:
    try:
        parts = urlsplit(issuer)
        loopback = parts.scheme in ("http", "https") and parts.hostname in LOOPBACK_HOSTS
        plain = not (parts.query or parts.fragment or parts.username or issuer.endswith("/"))
        usable = loopback and plain and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ProviderError(
            f"The development provider cannot be {issuer!r}: it runs on this machine only, "
            "so its issuer must look like http://127.0.0.1:9000."
        )
