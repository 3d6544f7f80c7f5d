"""What the service asked about tokens lately, and what it was told."""

import time
from collections import deque
from dataclasses import dataclass, field

from template_tools.messages import _
from template_tools.provider.config import ProviderConfig
from template_tools.provider.faults import HEALTHY, Faults
from template_tools.provider.tokens import Token

_KEPT = 20


@dataclass(frozen=True)
class Introspection:
    """One introspection, without the token itself; `at` is in Unix seconds."""

    who: str
    client: str
    verdict: str
    """What the service was told and why, as a sentence."""
    scopes: tuple[str, ...] | None = None
    """What a good token grants; None for another."""
    at: float = field(default_factory=time.time)


class Introspections(deque[Introspection]):
    """The last introspections, the latest first."""

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(maxlen=_KEPT)
        self._config = config

    def add_refused_client(self, reason: str) -> None:
        """Remember a request of a service that could not say who it is."""
        verdict = _("The service was refused: {reason}", reason=reason)
        self.appendleft(Introspection("", "", verdict))

    def add(self, token: Token | None, faults: Faults) -> None:
        """Remember a request about a token, None for an unknown one."""
        claims = {} if token is None else token.claims
        who = str(claims.get("username") or claims.get("sub") or "")
        client = str(claims.get("client_id", ""))
        if reason := self._fault(faults) or self._reason(token):
            self.appendleft(Introspection(who, client, reason))
            return
        scope = claims.get("scope")
        scopes = scope.split() if isinstance(scope, str) else []
        verdict = _("Active, with {scopes}.", scopes=" ".join(scopes) or _("no scope"))
        self.appendleft(Introspection(who, client, verdict, tuple(scopes)))

    def _reason(self, token: Token | None) -> str | None:
        """Return why a token is not accepted, as far as that is known here."""
        if token is None:
            return _(
                "Unknown: the random text by which the service checks that it is answered, or a "
                "token of another provider or from before the last start."
            )
        if token.revoked:
            return _("Inactive, because it was revoked.")
        if not token.active:
            expired = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(token.expires_at))
            return _("Inactive, because it expired at {time}.", time=expired)
        audience = token.claims.get("aud")
        if self._config.audience not in (audience if isinstance(audience, list) else [audience]):
            return _(
                "Active, but made for {audience}, while the service is {service}.",
                audience=audience,
                service=self._config.audience,
            )
        return None

    @staticmethod
    def _fault(faults: Faults) -> str | None:
        if faults == HEALTHY:
            return None
        if faults.status is not None:
            return _(
                "Answered with the status {status} instead, because a fault is on.",
                status=faults.status,
            )
        return _("Answered late or wrongly, because a fault is on.")
