"""Passwords that users have here, beside single sign-on: hashed with Argon2id (RFC 9106)."""

import unicodedata
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from passlib.context import CryptContext
from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

# 64 MiB and three passes are the second choice of RFC 9106 §4, and the library's own.
_context = CryptContext(schemes=["argon2"], argon2__type="ID")
# Each takes that much memory for a tenth of a second, so that callers must not start them freely.
_limiter = CapacityLimiter(4)


def _encodable(password: SecretStr) -> SecretStr:
    try:
        password.get_secret_value().encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("string_unicode", "Half of a surrogate pair") from None
    return password


type Password = Annotated[
    SecretStr, Field(min_length=12, max_length=200), AfterValidator(_encodable)
]
"""A password on its way in: not shown where it is printed or logged, and never answered."""


async def hash_password(password: SecretStr) -> str:
    """Return the hash of a password, with its salt and parameters, in 97 characters."""
    # In a thread, because it would stop every other request for a tenth of a second.
    hashed: str = await to_thread.run_sync(_context.hash, _text(password), limiter=_limiter)
    return hashed


async def verify_password(password: SecretStr, hashed: str | None) -> bool:
    """Whether the password is the one that was hashed.

    It takes as long where there is no hash, so that the time does not tell who has a password.
    """
    if hashed is None:
        await to_thread.run_sync(_context.dummy_verify, limiter=_limiter)
        return False
    return bool(
        await to_thread.run_sync(_context.verify, _text(password), hashed, limiter=_limiter)
    )


async def with_hash(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a body with ``password_hash`` in the place of ``password``.

    A password of None takes the user's password away; no ``password`` at all changes nothing.
    Call it before the session reads: a hash takes a while, and a connection would wait as long.
    """
    if "password" not in members:
        return members
    password: SecretStr | None = members["password"]
    others = {name: value for name, value in members.items() if name != "password"}
    return others | {"password_hash": None if password is None else await hash_password(password)}


def _text(password: SecretStr) -> str:
    # The same password typed on another keyboard may be other code points (NIST SP 800-63B).
    return unicodedata.normalize("NFKC", password.get_secret_value())
