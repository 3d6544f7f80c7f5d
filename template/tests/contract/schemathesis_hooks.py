"""What the description of the API cannot say to schemathesis."""

import re
from typing import Any

import schemathesis
from hypothesis import strategies
from pydantic import TypeAdapter, ValidationError
from schemathesis import Case, HookContext
from schemathesis.generation import GenerationMode

from app.core.etag import IF_MATCH_PATTERN
from app.core.schema import Email

_email: TypeAdapter[str] = TypeAdapter(Email)


def _is_accepted(address: str) -> bool:
    # Some names are no addresses of the internet (RFC 6761), such as those that end in .test.
    try:
        _email.validate_python(address)
    except ValidationError:
        return False
    return True


# In lower case, because schemathesis itself takes xN--90AE for no domain, and xn--90ae for one.
addresses = strategies.emails().map(str.lower).filter(_is_accepted)
schemathesis.openapi.format("email", addresses)


def filter_case(_context: HookContext, case: Case[Any]) -> bool:
    """Leave out a wrong If-Match that schemathesis calls right, as it does where it is optional."""
    tags = str(case.headers["If-Match"]) if "If-Match" in (case.headers or ()) else "*"
    is_right = re.search(IF_MATCH_PATTERN, tags) is not None
    return is_right or not case.meta or case.meta.generation.mode != GenerationMode.POSITIVE


schemathesis.hook(filter_case)
