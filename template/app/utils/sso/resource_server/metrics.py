"""The metrics of the token checks.

The instruments are OpenTelemetry's, and cost next to nothing where the service sets up no SDK.
"""

from opentelemetry.metrics import get_meter

_meter = get_meter("app.utils.sso")

INTROSPECTION_DURATION = _meter.create_histogram(
    "sso.introspection.duration",
    unit="s",
    description="How long a call to the introspection endpoint took, by its outcome",
    explicit_bucket_boundaries_advisory=[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
)
CACHE_LOOKUPS = _meter.create_counter(
    "sso.token_cache.lookups",
    unit="{lookup}",
    description="Tokens looked up: hit, shared (a replica's), joined (one under way), stale, miss",
)
JOINED = _meter.create_up_down_counter(
    "sso.introspection.joined",
    unit="{request}",
    description="Requests that wait for an answer that another request has asked for",
)
REFUSALS = _meter.create_counter(
    "sso.token.refusals",
    unit="{token}",
    description="Tokens refused, by reason",
)
BREAKER_STATE = _meter.create_gauge(
    "sso.breaker.state",
    description="0: calls are made, 1: held back for the rate, 2: provider down, 3: misconfigured",
)
