"""How passwords are kept."""

import asyncio
from unicodedata import normalize

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from app.core import passwords
from app.core.passwords import Password, hash_password, verify_password, with_hash

PASSWORD = SecretStr("correct horse battery")


async def test_a_password_is_known_by_its_hash_and_no_other_is() -> None:
    hashed = await hash_password(PASSWORD)

    assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert len(hashed) <= 255
    assert await verify_password(PASSWORD, hashed)
    assert not await verify_password(SecretStr("correct horse batterz"), hashed)


async def test_two_hashes_of_one_password_differ() -> None:
    assert await hash_password(PASSWORD) != await hash_password(PASSWORD)


async def test_the_same_letters_typed_otherwise_are_the_same_password() -> None:
    hashed = await hash_password(SecretStr("caf\u00e9 correct horse"))
    assert await verify_password(SecretStr("cafe\u0301 correct horse"), hashed)


async def test_who_has_no_password_has_none_that_fits() -> None:
    assert not await verify_password(PASSWORD, None)


async def test_hashing_does_not_hold_up_other_requests() -> None:
    hashing = asyncio.create_task(hash_password(PASSWORD))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0)
        turns += 1
    # Where it is done in the event loop itself, there are two or three.
    assert turns > 50


async def test_four_at_once_are_the_most_and_the_others_wait() -> None:
    """Each takes 64 MiB, and whoever calls the service decides how many there are."""
    hashed = await hash_password(PASSWORD)
    limiter = passwords._limiter
    others = [object() for _ in range(4)]
    for other in others:
        limiter.acquire_on_behalf_of_nowait(other)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(hash_password(PASSWORD))
        tasks.create_task(verify_password(PASSWORD, hashed))
        tasks.create_task(verify_password(PASSWORD, None))
        async with asyncio.timeout(20):
            while limiter.statistics().tasks_waiting < 3:  # noqa: ASYNC110 - a queue has no event
                await asyncio.sleep(0)
        for other in others:
            limiter.release_on_behalf_of(other)


async def test_a_hash_takes_the_place_of_the_password() -> None:
    assert await with_hash({"name": "alice"}) == {"name": "alice"}
    assert await with_hash({"name": "alice", "password": None}) == {
        "name": "alice",
        "password_hash": None,
    }
    members = await with_hash({"password": PASSWORD})
    assert await verify_password(PASSWORD, members.pop("password_hash"))
    assert members == {}


async def test_every_character_can_be_part_of_a_password() -> None:
    """They are hashed as they are: none ends the password, and none is left out."""
    for odd in ("\0", "\n", " ", "\u200d", "\ufdfa", "\U0001f600", "\x7f", ":", "$", "\\"):
        password = TypeAdapter(Password).validate_python(f"correct {odd} horse battery")
        hashed = await hash_password(password)
        assert await verify_password(password, hashed)
        assert not await verify_password(SecretStr(f"correct {odd} horse batterz"), hashed)


# Each is longer than what is hashed: accents join their letters, and Hangul its syllables.
@pytest.mark.parametrize(
    "password", ["e\u0301" * 6, "\u1112\u1161\u11ab" * 4, "a\u0323\u0302" * 11]
)
def test_the_characters_are_counted_that_are_hashed(password: str) -> None:
    assert len(password) >= 12
    assert len(normalize("NFKC", password)) < 12
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Password).validate_python(password)
    assert [error["type"] for error in caught.value.errors()] == ["too_short"]


@pytest.mark.parametrize("password", ["", "x" * 11, "x" * 201, "\ud800" * 12, None, 123456789012])
def test_what_is_no_password_is_refused_without_repeating_it(password: object) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Password).validate_python(password)
    assert caught.value.errors(include_input=False)
