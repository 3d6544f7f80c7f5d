"""The common way, for contrast: a client for each introspection, an untuned session, no cache."""

import os
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import httpx2
from apps import bare
from apps.bare import UserAccount
from fastapi import Depends, FastAPI, Header, HTTPException
from sqlmodel.ext.asyncio.session import AsyncSession

app = FastAPI(lifespan=bare.lifespan)


async def introspect(authorization: Annotated[str, Header()]) -> dict[str, Any]:
    """Ask the provider about a token."""
    async with httpx2.AsyncClient() as client:
        response = await client.post(
            os.environ["SSO_ISSUER"] + "/introspect",
            data={"token": authorization.removeprefix("Bearer ")},
            auth=(os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]),
        )
    data: dict[str, Any] = response.json()
    if not data["active"]:
        raise HTTPException(401)
    return data


async def get_session() -> AsyncGenerator[AsyncSession]:
    """Open a session."""
    async with AsyncSession(app.state.engine) as session:
        yield session


@app.get("/livez")
async def livez() -> dict[str, str]:
    """Answer."""
    return {"status": "ok"}


@app.get("/me")
async def me(
    _token: Annotated[dict[str, Any], Depends(introspect)],
    session: Annotated[AsyncSession, Depends(get_session)],
) -> UserAccount:
    """Return one row."""
    return (await session.exec(bare.MINE)).one()
