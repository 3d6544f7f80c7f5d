"""Whether replicas share the provider's responses."""

from contextlib import AbstractAsyncContextManager, nullcontext
from importlib import import_module

from app.core.settings import CoreSettings
from app.utils.sso.resource_server.clock import Clock
from app.utils.sso.resource_server.token_cache import SharedCache


def open_shared_cache(
    settings: CoreSettings, clock: Clock, timeout_seconds: float
) -> AbstractAsyncContextManager[SharedCache | None]:
    """Open the cache that ``TOKEN_CACHE_URL`` names; without it there is none.

    Nor is there one in the mode ``jwt``: verifying a signature is faster than asking a cache.

    Raises:
        SystemExit: There is a URL, and the project was made without what it takes.
    """
    if settings.token_cache_url is None or settings.sso_mode == "jwt":
        return nullcontext()
    try:
        # The module, and the package that it needs, are there where the answer to the template's
        # question token_cache is valkey.
        valkey = import_module("app.utils.sso.resource_server.valkey_cache")
    except ModuleNotFoundError:
        raise SystemExit(
            "The service cannot start: TOKEN_CACHE_URL is set, and this project keeps tokens in "
            "memory. Unset it, or run: uvx copier update --data token_cache=valkey"
        ) from None
    opened: AbstractAsyncContextManager[SharedCache] = valkey.open_valkey_cache(
        settings, clock, timeout_seconds
    )
    return opened
