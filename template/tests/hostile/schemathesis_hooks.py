"""What the description of the API cannot say to schemathesis."""

import schemathesis
from hypothesis import strategies
from pydantic import TypeAdapter, ValidationError

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
