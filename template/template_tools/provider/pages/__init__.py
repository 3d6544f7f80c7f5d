"""The provider's HTML pages: how text gets into them, and what a browser may do with them."""

import re
from html import escape
from pathlib import Path
from string import Template

from fastapi.responses import HTMLResponse

from template_tools.messages import translated
from template_tools.provider.forms import NO_STORE

FILES = {name: Path(__file__).with_name(name) for name in ("page.css", "page.js")}

_MARK = re.compile(r"\[\[(.+?)\]\]", re.DOTALL)


class Html(str):
    """Text that is HTML already; `fill` escapes every other text."""

    __slots__ = ()


def template(name: str) -> Template:
    """Return a template of this folder; what it leaves open begins with a dollar sign."""
    return marked(Path(__file__).with_name(name).read_text("utf-8"))


def marked(html: str) -> Template:
    """Return a template whose messages, in double brackets, are in the language of the project."""
    return Template(_MARK.sub(lambda mark: translated(mark[1]), html))


def fill(template: Template, **values: str) -> Html:
    """Return a template with its values, escaped unless they are HTML."""
    safe = {name: it if isinstance(it, Html) else escape(it) for name, it in values.items()}
    return Html(template.substitute(safe))


_PAGE = template("page.html")


def page(title: str, content: Html, *, status: int = 200, form_action: str = "") -> HTMLResponse:
    """Return a page, which loads its own style and script and nothing else.

    `form_action` restricts where its forms lead, by themselves and by redirects.
    """
    policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src data:; "
        "frame-ancestors 'none'; base-uri 'none'" + (form_action and f"; form-action {form_action}")
    )
    headers = NO_STORE | {
        "Content-Security-Policy": policy,
        # Without a referrer a browser would not say either which page has sent a form.
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(fill(_PAGE, title=title, content=content), status, headers)


def error_page(title: str, sentence: str, status: int) -> HTMLResponse:
    """Return a page that says why something did not happen."""
    content = fill(
        Template('<main class="narrow"><h1>$title</h1><p>$sentence</p></main>'),
        title=title,
        sentence=sentence,
    )
    return page(title, content, status=status)
