"""The page that documents the API, and signs in at the identity provider to try it.

Its viewer, Swagger UI, comes from a package, so that the page works in a closed network too.
"""

import asyncio
import json
from contextlib import suppress
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse

from app.core.errors import NotFound
from app.core.openapi import PUBLIC
from app.core.project import TITLE
from app.settings import Settings
from app.utils.sso.resource_server.introspector import Introspector
from app.utils.sso.resource_server.provider_errors import ProviderError

_HERE = Path(__file__).parent
_VIEWER = Path(str(resources.files("fastapi_swagger.resources")))
_PAGE = Template((_HERE / "page.html").read_text("utf-8"))
_LOGIN_SECONDS = 3

# The names of a page's own files, and of the viewer's.
_FILES = {name: _HERE / name for name in ("page.js", "page.css", "oauth2-redirect.js")} | {
    name: _VIEWER / name for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
}

router = APIRouter(include_in_schema=False)


@router.get("/docs", openapi_extra=PUBLIC)
# Where FastAPI has another page of the same.
@router.get("/redoc", openapi_extra=PUBLIC)
async def docs_page(request: Request) -> HTMLResponse:
    """Return the page. It offers to sign in if the provider says where (RFC 8414)."""
    settings: Settings = request.app.state.settings
    authorization_url = token_url = ""
    # A test may call the application without starting it.
    introspector: Introspector | None = getattr(request.app.state, "introspector", None)
    if introspector is not None:
        with suppress(ProviderError, TimeoutError):
            async with asyncio.timeout(_LOGIN_SECONDS):
                authorization_url, token_url = await introspector.login_endpoints()
    values = {
        "clientId": settings.docs_client_id or settings.client_id,
        "scopes": settings.docs_scopes.split(),
        "isDevelopment": settings.environment == "development",
        "authorizationUrl": authorization_url,
        "tokenUrl": token_url,
    }
    # As text in an element, it must not end the element.
    page = _PAGE.substitute(
        title=escape(TITLE), settings=json.dumps(values).replace("<", r"\u003c")
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": _policy(token_url)})


@router.get("/docs/oauth2-redirect", openapi_extra=PUBLIC)
async def return_from_login() -> FileResponse:
    """Return the page to which the provider sends a browser back."""
    headers = {"Content-Security-Policy": _policy()}
    return FileResponse(_HERE / "oauth2-redirect.html", headers=headers)


@router.get("/docs/{name}", openapi_extra=PUBLIC)
async def page_file(name: str) -> FileResponse:
    """Return a file that the pages load.

    Raises:
        NotFound: 404, it is none of them.
    """
    if name not in _FILES:
        raise NotFound
    return FileResponse(_FILES[name], headers={"Cache-Control": "max-age=600"})


def _policy(token_url: str = "") -> str:
    """Return what the page may load: nothing from elsewhere, but a token from the provider."""
    provider = urlsplit(token_url)
    origin = f" {provider.scheme}://{provider.netloc}" if provider.netloc else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
        f" img-src 'self' data:; connect-src 'self'{origin};"
        " frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
