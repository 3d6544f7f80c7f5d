"""The development page: who a developer can be, and what became of the tokens.

It is for the browser of this machine, so it is not part of any standard and lies outside the
issuer's path. Forms are taken from the page itself only, and other pages cannot read it.
"""

import secrets
import time
from collections.abc import Iterable
from dataclasses import replace
from string import Template
from urllib.request import getproxies

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from template_tools.configuration import configured
from template_tools.messages import _
from template_tools.provider.faults import HEALTHY, Endpoint, Faults
from template_tools.provider.forms import (
    NO_STORE,
    OAuthError,
    Parameters,
    checked_scope,
    read_form,
)
from template_tools.provider.introspections import Introspection
from template_tools.provider.pages import FILES, Html, error_page, fill, marked, page, template
from template_tools.provider.people import EVERYBODY, Person, person
from template_tools.provider.service import ServiceDescription
from template_tools.provider.state import CurrentState, ProviderState
from template_tools.provider.tokens import Token, TokenRequest

router = APIRouter()

# What the service asks while it serves requests. Its metadata is fetched once an hour.
_ASKED: frozenset[Endpoint] = frozenset({"introspection", "jwks"})
# How many scopes are named where there may be dozens.
_NAMED = 4
_FAULTS = {
    "none": (_("It works"), HEALTHY),
    "outage": (_("It answers 503"), Faults(endpoints=_ASKED, status=503)),
    "slow": (_("It takes 10 seconds"), Faults(endpoints=_ASKED, latency=10)),
    "limit": (_("It answers 429"), Faults(endpoints=_ASKED, status=429, retry_after="5")),
}
_TABLE = marked("""<div class="scroll"><table>
<thead><tr><th scope="col">[[Time]]</th><th scope="col">[[Who]]</th>
<th scope="col">[[Client]]</th><th scope="col">[[Answer]]</th></tr></thead>
<tbody>
$rows
</tbody>
</table></div>""")
_ROW = Template("""<tr class="$kind"><td>$time</td><td>$who</td><td>$client</td>
<td>$verdict</td></tr>""")
_NOTHING = marked(
    "<p>[[Nothing yet. The service asks when it sees a token that it does not remember; "
    "with <code>SSO_MODE=jwt</code> it checks the signature instead, and never asks.]]</p>"
)
_PERSON = marked("""<li>
<h3>$name</h3>
<p>$about</p>
<details class="quiet"><summary>[[Scopes]] ($count)</summary><code>$scopes</code></details>
<form method="post" class="actions" rel="noopener">
<input type="hidden" name="as" value="$name">
<button name="action" value="token" aria-label="[[Token of $name]]">[[Token]]</button>
$docs
</form>
</li>""")
_DOCS = marked("""<button name="action" value="docs" formtarget="_blank"
 aria-label="[[Docs page as $name]]"$disabled>[[Docs page]]</button>""")
_TOKEN = marked("""<section class="panel" aria-labelledby="token">
<h2 id="token">[[A token of $name]]</h2>
<p>[[Scopes: $scope. It is good until $time.]]</p>
<pre>$curl</pre>
<pre>$value</pre>
</section>""")
_LINK = Template("<dt>$name</dt><dd>$value</dd>")
_FAULT = Template('<button name="fault" value="$key" aria-pressed="$pressed">$name</button>')
_NOTICE = Template('<p class="notice" role="status">$text</p>')
_PAGE = template("development.html")


@router.get("/")
async def show_page(state: CurrentState) -> Response:
    """Show the page."""
    return await _page(state)


@router.post("/")
async def act(request: Request, state: CurrentState) -> Response:
    """Do what a form of the page asks for."""
    try:
        # A browser says which page has sent a form, and no other one may act for the developer.
        if request.headers.get("origin") != f"http://{request.headers['host']}":
            raise OAuthError("access_denied", "The form is not from the development page.", 403)
        form = await read_form(request)
        match form.require("action"):
            case "token":
                somebody = _chosen(form)
                scope = form.scope()
                return await _page(state, somebody, scope)
            case "docs" if state.config.service_url:
                # Whoever has the random text logs in without a form, once.
                ticket = secrets.token_urlsafe(32)
                state.tickets[ticket] = _chosen(form)
                url = f"{state.config.service_url}/docs?login_hint={ticket}"
                return RedirectResponse(url, 303, NO_STORE)
            case "fault" if form.get("fault") in _FAULTS:
                state.faults.set(_FAULTS[form.require("fault")][1])
                return RedirectResponse("/#faults", 303, NO_STORE)
        raise OAuthError("invalid_request", "The development page has no such button.")
    except OAuthError as error:
        return error_page(_("That did not work"), error.sentence, error.status)


@router.get("/dev/introspections")
async def show_introspections(state: CurrentState) -> HTMLResponse:
    """Return the part of the page that changes by itself."""
    return HTMLResponse(_introspections(state), headers=NO_STORE)


@router.get("/dev/page.css")
@router.get("/dev/page.js")
async def page_file(request: Request) -> FileResponse:
    """Return a file that the pages load."""
    # A file that an update has changed is loaded anew.
    headers = {"Cache-Control": "no-cache"}
    return FileResponse(FILES[request.url.path.rpartition("/")[2]], headers=headers)


def _chosen(form: Parameters) -> Person:
    """Return who the form names, with the roles and scopes that it names too."""
    somebody = person((form.get("as") or "").strip())
    if roles := (form.get("role") or "").split():
        somebody = replace(somebody, roles=tuple(roles))
    if scope := form.get("scope"):
        somebody = replace(somebody, may_have=frozenset(checked_scope(scope).split()).__contains__)
    return somebody


async def _page(
    state: ProviderState, somebody: Person | None = None, scope: str | None = None
) -> Response:
    """Return the page, with a new token where somebody wants one."""
    service = await state.ask_service()
    notices = [service.problem] if service.problem else []
    if state.faults.current != HEALTHY:
        notices.append(_("The identity provider fails on purpose: a button at the end mends it."))
    token = Html()
    if somebody is not None:
        scope = scope or " ".join(somebody.scopes(service.scopes))
        minted = state.tokens.mint(TokenRequest.model_validate(somebody.claims(scope)))
        token = _token(somebody, minted, state.config.service_url + service.path)
    content = fill(
        _PAGE,
        title=service.title,
        notices=_joined(fill(_NOTICE, text=it) for it in notices),
        token=token,
        people=_joined(_person(it, service, state) for it in EVERYBODY.values()),
        scopes=" ".join(EVERYBODY["dev"].scopes(service.scopes)),
        no_docs=_disabled(state),
        introspections=_introspections(state),
        links=_links(state),
        faults=_joined(
            fill(_FAULT, key=key, name=name, pressed=str(state.faults.current == it).lower())
            for key, (name, it) in _FAULTS.items()
        ),
    )
    form_action = f"'self' {state.config.service_url}"
    title = _("{service} · development", service=service.title)
    return page(title, content, form_action=form_action)


def _person(somebody: Person, service: ServiceDescription, state: ProviderState) -> Html:
    docs = fill(_DOCS, name=somebody.name, disabled=_disabled(state))
    scopes = somebody.scopes(service.scopes)
    return fill(
        _PERSON,
        name=somebody.name,
        about=somebody.about,
        count=str(len(scopes)),
        scopes=" ".join(scopes),
        # A machine has no browser.
        docs=Html() if somebody.is_machine else docs,
    )


def _token(somebody: Person, token: Token, url: str) -> Html:
    # curl would ask the proxy for this machine.
    direct = "--noproxy '*' " if getproxies().keys() & {"http", "all"} else ""
    return fill(
        _TOKEN,
        name=somebody.name,
        scope=str(token.claims.get("scope") or _("none")),
        time=_time(token.expires_at),
        curl=f'curl {direct}-H "Authorization: Bearer {token.value}" {url}',
        value=token.value,
    )


def _introspections(state: ProviderState) -> Html:
    if not state.introspections:
        return fill(_NOTHING)
    required = state.service.scopes
    return fill(_TABLE, rows=_joined(_row(it, required) for it in [*state.introspections]))


def _row(one: Introspection, required: Iterable[str]) -> Html:
    missing = [it for it in required if one.scopes is not None and it not in one.scopes]
    if len(missing) > _NAMED:
        missing[_NAMED:] = [_("others")]
    listed = _(" or ").join(missing)
    forbidden = _("Routes that require {scopes} answer it with 403.", scopes=listed)
    return fill(
        _ROW,
        kind="bad" if one.scopes is None else "good",
        time=_time(one.at),
        who=one.who,
        client=one.client,
        verdict=f"{one.verdict} {forbidden}" if missing else one.verdict,
    )


def _links(state: ProviderState) -> Html:
    service, issuer = state.config.service_url, state.config.issuer
    links = {_("Identity provider"): f"{issuer}/.well-known/openid-configuration"}
    if service:
        links = {_("Docs page"): f"{service}/docs", _("Health"): f"{service}/health"} | links
        if port := configured("METRICS_PORT"):
            links[_("Metrics")] = f"http://127.0.0.1:{port}/metrics"
    rows = [
        fill(_LINK, name=name, value=fill(Template('<a href="$url">$url</a>'), url=url))
        for name, url in links.items()
    ]
    # What a browser cannot open.
    places = {_("Service"): service, _("Database"): _database()}
    rows += [fill(_LINK, name=name, value=place) for name, place in places.items() if place]
    return _joined(rows)


def _database() -> str | None:
    """Return the URL of the database without its password, and without what may hold another."""
    value = configured("DATABASE_URL")
    try:
        return value and make_url(value).set(query={}).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return _("DATABASE_URL is not a URL")


def _disabled(state: ProviderState) -> Html:
    return Html("" if state.config.service_url else " disabled")


def _time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _joined(parts: Iterable[Html]) -> Html:
    return Html("\n".join(parts))
