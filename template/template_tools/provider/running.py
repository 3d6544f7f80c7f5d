"""A handle on a provider that runs in this process, for tests."""

from collections.abc import Mapping

from pydantic import JsonValue

from template_tools.provider.config import ProviderConfig
from template_tools.provider.faults import Faults
from template_tools.provider.keys import Algorithm, Forgery
from template_tools.provider.state import ProviderState
from template_tools.provider.tokens import TokenRequest


class RunningProvider:
    """A provider that runs in this process. Its methods act at once, without HTTP."""

    def __init__(self, state: ProviderState) -> None:
        """Wrap the memory of the provider that is being served."""
        self._state = state

    @property
    def config(self) -> ProviderConfig:
        """The configuration, with the real port in its issuer."""
        return self._state.config

    @property
    def issuer(self) -> str:
        """The issuer's URL, such as http://127.0.0.1:40123."""
        return self.config.issuer

    @property
    def faults(self) -> Faults:
        """The faults in force; assign `Faults(...)` to make the provider misbehave."""
        return self._state.faults.current

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._state.faults.set(faults)

    @property
    def introspection_calls(self) -> int:
        """How many introspection requests arrived, refused ones included."""
        return self._state.calls["introspection"]

    @property
    def discovery_calls(self) -> int:
        """How many requests for a discovery document arrived."""
        return self._state.calls["discovery"]

    @property
    def jwks_calls(self) -> int:
        """How many requests for the keys arrived."""
        return self._state.calls["jwks"]

    def mint(self, **claims: object) -> str:
        """Return a new access token; the keywords are the fields of `TokenRequest`, or claims."""
        return self._state.tokens.mint(TokenRequest.model_validate(claims)).value

    def revoke(self, token: str) -> None:
        """Make a token inactive."""
        self._state.tokens.revoke(token)

    def sign(
        self,
        claims: Mapping[str, JsonValue],
        *,
        algorithm: Algorithm | Forgery = "RS256",
        typ: str | None = "at+jwt",
        **headers: JsonValue,
    ) -> str:
        """Return a JWT of these very claims, unchecked, signed with a key of the provider.

        `headers` replace or join `alg`, `typ` and `kid`; None leaves one out. The algorithm "none"
        leaves the signature empty, and "HS256" abuses the public RSA key for a shared secret. The
        provider does not remember the token: introspection calls it inactive.
        """
        keys = self._state.tokens.keys
        return keys.sign(claims, algorithm=algorithm, typ=typ, **headers)

    def rotate_keys(self, *, keep_old: bool = False) -> None:
        """Replace the signing keys; the JWKS has the old ones no longer, unless `keep_old`."""
        self._state.tokens.rotate_keys(keep_old=keep_old)

    def reset(self) -> None:
        """Forget all tokens, logins, counts and faults; the keys that sign stay."""
        self._state.reset()
