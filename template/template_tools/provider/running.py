"""A handle on a provider that runs in this process, for tests."""

from collections.abc import Mapping

from pydantic import JsonValue

from template_tools.provider.config import ProviderConfig
from template_tools.provider.faults import Faults
from template_tools.provider.state import ProviderState
from template_tools.provider.tokens import TokenRequest


class RunningProvider:
    """A provider that runs in this process. Its methods act at once, without HTTP."""

    def __init__(self, state: ProviderState) -> None:
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
        """How many introspection requests were received, refused ones included."""
        return self._state.calls["introspection"]

    def mint(self, **claims: object) -> str:
        """Return a new access token; the keywords are the fields of `TokenRequest`, or claims."""
        return self._state.tokens.mint(TokenRequest.model_validate(claims)).value

    def revoke(self, token: str) -> None:
        """Make a token inactive."""
        self._state.tokens.revoke(token)

    def sign(
        self, claims: Mapping[str, JsonValue], *, typ: str | None = "at+jwt", **headers: JsonValue
    ) -> str:
        """Return a JWT of exactly these claims, not validated, signed with the provider's key.

        `headers` replace or join `alg`, `typ` and `kid`; None leaves one out. The provider does not
        remember the token: introspection calls it inactive.
        """
        return self._state.tokens.key.sign(claims, typ=typ, **headers)

    def reset(self) -> None:
        """Forget all tokens, logins, counts and faults; the key stays."""
        self._state.reset()
