"""The introspection endpoint (RFC 7662), whose answer may be a signed JWT (RFC 9701)."""

import json
import time
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response

from template_tools.provider.faults import Envelope, JwtFlaw, reply
from template_tools.provider.forms import read_form
from template_tools.provider.state import CurrentState, ProviderState
from template_tools.provider.tokens import TokenRequest

router = APIRouter()
_JWT_TYPE = "token-introspection+jwt"


@router.post("/introspect")
async def introspect(request: Request, state: CurrentState) -> Response:
    """Describe a token to the registered client (RFC 7662 §2), on demand in a JWT (RFC 9701 §4)."""
    state.calls["introspection"] += 1
    form = await read_form(request)
    client = state.clients.authenticate_registered(request, form)
    token = form.require("token")
    faults = state.faults.take("introspection", token)
    answer = state.tokens.describe(token)
    if faults.always_active and not answer["active"]:
        answer = state.tokens.describe(state.tokens.mint(TokenRequest()).value)
    envelope = None
    if f"application/{_JWT_TYPE}" in request.headers.get("accept", "").lower():
        seal = partial(_sign, client_id=client.id, flaw=faults.introspection_jwt, state=state)
        envelope = Envelope(f"application/{_JWT_TYPE}", seal)
    return await reply(answer, faults, envelope)


def _sign(document: bytes, client_id: str, flaw: JwtFlaw | None, state: ProviderState) -> bytes:
    """Return the JWT of RFC 9701 §5 around a document, which may itself be faulty JSON."""
    issuer = state.config.issuer
    claims = {
        "iss": f"{issuer}/another" if flaw == "wrong_issuer" else issuer,
        "aud": f"{client_id}-another" if flaw == "wrong_audience" else client_id,
        "iat": int(time.time()),
    }
    opened = json.dumps(claims).encode().removesuffix(b"}")
    payload = opened + b', "token_introspection": ' + document + b"}"
    signed = state.tokens.keys.sign_bytes(
        payload,
        algorithm="none" if flaw == "unsigned" else "RS256",
        typ="JWT" if flaw == "wrong_typ" else _JWT_TYPE,
    )
    if flaw == "wrong_signature":
        # The signature of something else is as long as the right one, and as well-formed.
        other = state.tokens.keys.sign({})
        signed = f"{signed.rpartition('.')[0]}.{other.rpartition('.')[2]}"
    return signed.encode()
