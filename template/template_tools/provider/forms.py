"""The parameters of OAuth requests, and the errors that answer malformed ones."""

import re
from typing import TypeGuard
from urllib.parse import parse_qs

from fastapi import Request
from fastapi.responses import JSONResponse

from template_tools.messages import translated

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_MAX_PARAMETERS = 50
# RFC 6749, Appendix A.4: printable ASCII without the quote and the backslash.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")


class OAuthError(Exception):
    """An error that the client is told about (RFC 6749 §5.2)."""

    def __init__(self, error: str, description: str, status: int = 400, **values: object) -> None:
        """`error` is the registered code, `description` a plain ASCII sentence.

        The description has ``{placeholders}`` for the values.
        """
        self.error = error
        self.description = description.format(**values) if values else description
        self.status = status
        self.sentence = translated(description, **values)
        """The description for people, in the language of the project."""
        super().__init__(self.description)

    def response(self) -> JSONResponse:
        """Return the response of RFC 6749 §5.2; a 401 names a scheme to use (RFC 9110 §15.5.2)."""
        headers = dict(NO_STORE)
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="development provider", charset="UTF-8"'
        body = {"error": self.error, "error_description": self.description}
        return JSONResponse(body, self.status, headers)


class Parameters:
    """The parameters of one request: an empty one counts as absent (RFC 6749 §3.1)."""

    def __init__(self, encoded: bytes) -> None:
        """Raise OAuthError for malformed text and for a repeated parameter (RFC 6749 §3.1)."""
        try:
            text = encoded.decode("ascii")
            values = parse_qs(text, errors="strict", max_num_fields=_MAX_PARAMETERS)
        except ValueError as error:
            raise OAuthError("invalid_request", "The parameters cannot be decoded.") from error
        if any(len(found) > 1 for found in values.values()):
            raise OAuthError("invalid_request", "A parameter is given more than once.")
        self._values = {name: found[0] for name, found in values.items()}

    def get(self, name: str) -> str | None:
        """Return one value, or None when it is absent."""
        return self._values.get(name)

    def require(self, name: str) -> str:
        """Return one value; raise OAuthError when it is absent."""
        value = self.get(name)
        if value is None:
            raise OAuthError("invalid_request", "The parameter {name} is missing.", name=name)
        return value

    def scope(self) -> str | None:
        """Return the requested scope; raise OAuthError for a malformed one (RFC 6749 §3.3)."""
        scope = self.get("scope")
        return scope if scope is None else checked_scope(scope)


def is_scope(word: object) -> TypeGuard[str]:
    """Whether something is one scope (RFC 6749, Appendix A.4)."""
    return isinstance(word, str) and " " not in word and _SCOPE.fullmatch(word) is not None


def checked_scope(scope: str) -> str:
    """Return a well-formed scope; raise OAuthError for another."""
    if not _SCOPE.fullmatch(scope):
        raise OAuthError("invalid_scope", "The scope must be words separated by one space.")
    return scope


async def read_form(request: Request) -> Parameters:
    """Read a form; raise OAuthError when the body is something else."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "Send application/x-www-form-urlencoded.")
    return Parameters(await request.body())
