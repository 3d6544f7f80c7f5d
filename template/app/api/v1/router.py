"""The resources of version 1 of the API: one line for each."""

from fastapi import APIRouter

from app.api.v1.user.router import router as user

router = APIRouter()
router.include_router(user, prefix="/user", tags=["user"])
