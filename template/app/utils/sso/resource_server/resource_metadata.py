"""How callers find out which provider this service trusts (RFC 9728)."""

from urllib.parse import quote, urlsplit, urlunsplit

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from app.core.errors import NotFound
from app.core.openapi import PUBLIC
from app.core.project import TITLE
from app.core.settings import CoreSettings

_PATH = "/.well-known/oauth-protected-resource"

router = APIRouter()


class ResourceMetadata(BaseModel):
    """The metadata of a protected resource (RFC 9728 §2)."""

    resource: str
    authorization_servers: list[str]
    bearer_methods_supported: list[str]
    resource_name: str


@router.get(_PATH, openapi_extra=PUBLIC, include_in_schema=False)
@router.get(_PATH + "/{path:path}", openapi_extra=PUBLIC, include_in_schema=False)
async def read_resource_metadata(request: Request) -> ResourceMetadata:
    """Describe this service to clients that want a token for it; 404 without ``PUBLIC_URL``."""
    settings: CoreSettings = request.app.state.settings
    if settings.public_url is None:
        raise NotFound("This service describes itself where PUBLIC_URL is set.")
    return ResourceMetadata(
        resource=settings.public_url,
        authorization_servers=[settings.sso_issuer],
        bearer_methods_supported=["header"],
        resource_name=TITLE,
    )


def metadata_url(connection: HTTPConnection) -> str | None:
    """Return where the metadata is, for a challenge; None where ``PUBLIC_URL`` is not set.

    The address is not taken from the request, whose caller could have written any host into it.
    RFC 9728 §3.1 inserts the well-known path before the path of the resource.
    """
    # A small application, such as a test's, may have no settings.
    settings: CoreSettings | None = getattr(connection.app.state, "settings", None)
    if settings is None or settings.public_url is None:
        return None
    parts = urlsplit(settings.public_url)
    # A quotation mark, which no URL may hold, would end the challenge in its middle.
    path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
    return urlunsplit((parts.scheme, parts.netloc, _PATH + path, "", ""))
