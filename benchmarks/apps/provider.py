"""An identity provider that costs next to nothing: every token is active.

The development provider would be the bottleneck. This one answers introspection, and publishes the
key that the benchmarks sign their JWTs with. Each answer says how often it was asked about a token.
"""

import json
import os
import time

from starlette.types import Receive, Scope, Send

ISSUER = os.environ["SSO_ISSUER"]
DOCUMENTS = {
    "/.well-known/openid-configuration": {
        "issuer": ISSUER,
        "introspection_endpoint": f"{ISSUER}/introspect",
        "jwks_uri": f"{ISSUER}/jwks",
    },
    "/jwks": json.loads(os.environ["PROVIDER_JWKS"]),
}
calls = 0


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request."""
    global calls
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"].removeprefix("lifespan.")
            await send({"type": f"lifespan.{kind}.complete"})
            if kind == "shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    calls += scope["path"] == "/introspect"
    document = DOCUMENTS.get(scope["path"]) or {
        "calls": calls,  # An extra member, for whoever counts them.
        "active": True,
        "iss": ISSUER,
        "sub": "subject-1",
        "username": "user-1",
        "client_id": "web",
        "aud": "benchmark",
        "scope": "user:read user:write",
        "token_type": "Bearer",
        "exp": int(time.time()) + 3600,
    }
    body = json.dumps(document).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
