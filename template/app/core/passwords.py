"""Local passwords, in addition to single sign-on: hashed with Argon2id (RFC 9106)."""

import unicodedata
from typing import Annotated, Any
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from cachetools import TTLCache
from passlib.context import CryptContext
from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError, PydanticKnownError

from app.core.errors import Forbidden, Problem

# The library's defaults, 64 MiB and three passes, are the second recommendation of RFC 9106 §4.
_context = CryptContext(schemes=["argon2"], argon2__type="ID")
# A hash takes that memory for a tenth of a second, so callers cannot start any number at once.
_limiter = CapacityLimiter(4)
_TRIES, _TRIES_SECONDS = 5, 900
_tries = TTLCache[UUID, int](10_000, _TRIES_SECONDS)


class TooManyTries(Problem):
    """The password of a user was tried too often."""

    status = 429
    retry_after = _TRIES_SECONDS


_MIN_LENGTH = 12
_MAX_LENGTH = 200


def _valid(password: SecretStr) -> SecretStr:
    try:
        password.get_secret_value().encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("string_unicode", "Lone surrogates are not accepted") from None
    # An accent may be a character of its own before it is normalised, and none afterwards.
    length = len(_text(password))
    if length < _MIN_LENGTH:
        counted = {"field_type": "Value", "min_length": _MIN_LENGTH, "actual_length": length}
        raise PydanticKnownError("too_short", counted)
    return password


type Password = Annotated[
    SecretStr, Field(min_length=_MIN_LENGTH, max_length=_MAX_LENGTH), AfterValidator(_valid)
]
"""A password of 12 to 200 characters in a request body; it does not show when printed."""


async def hash_password(password: SecretStr) -> str:
    """Return the hash of a password, with its salt and parameters, in 97 characters."""
    # In a thread, because hashing would block the event loop for a tenth of a second.
    hashed: str = await to_thread.run_sync(_context.hash, _text(password), limiter=_limiter)
    return hashed


async def verify_password(password: SecretStr, hashed: str | None) -> bool:
    """Return whether the password is the one that was hashed.

    Without a hash it takes just as long, so that timing does not reveal who has a password.
    """
    if hashed is None:
        await to_thread.run_sync(_context.dummy_verify, limiter=_limiter)
        return False
    return bool(
        await to_thread.run_sync(_context.verify, _text(password), hashed, limiter=_limiter)
    )


async def check_password(user_id: UUID, password: SecretStr, hashed: str | None) -> None:
    """Return if the password is the one of a user who is known by their token.

    Whoever has stolen the token has ``_TRIES`` in each process, and then waits.

    Raises:
        Forbidden: It is another one, or the user has none.
        TooManyTries: There were too many others lately.
    """
    # Counted before it is checked: of many tries at once, no more are allowed.
    tries = _tries.get(user_id, 0)
    if tries >= _TRIES:
        raise TooManyTries("The old password was wrong too often; try again later.")
    _tries[user_id] = tries + 1
    if not await verify_password(password, hashed):
        raise Forbidden("The old password is wrong, or there is none.")
    _tries.pop(user_id, None)


async def with_hash(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a body with ``password_hash`` in place of ``password``.

    A password of None removes the user's password; without ``password``, nothing changes. Call
    this before the session is used, which would hold its connection while the hash is computed.
    """
    if "password" not in members:
        return members
    password: SecretStr | None = members["password"]
    others = {name: value for name, value in members.items() if name != "password"}
    return others | {"password_hash": None if password is None else await hash_password(password)}


def _text(password: SecretStr) -> str:
    # Another keyboard may type the same password as other code points (NIST SP 800-63B).
    return unicodedata.normalize("NFKC", password.get_secret_value())
