"""File locks, which the kernel releases when their process dies."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
    import random
    import time

    # Windows lets nobody read or write locked bytes, so they are far behind the contents. A shared
    # lock is one random byte of a range, the exclusive lock the whole range.
    _FIRST_BYTE, _BYTES = 1 << 30, 1 << 20

    def _lock(descriptor: int, *, shared: bool, wait: bool) -> bool:
        offset = random.randrange(_BYTES) if shared else 0  # noqa: S311
        while True:
            os.lseek(descriptor, _FIRST_BYTE + offset, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1 if shared else _BYTES)
            except OSError:
                if not wait:
                    return False
                time.sleep(0.02)
            else:
                return True

else:
    import fcntl

    def _lock(descriptor: int, *, shared: bool, wait: bool) -> bool:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def acquire(path: Path, *, shared: bool = False) -> int:
    """Wait for the lock on a file; closing the returned descriptor releases it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor, shared=shared, wait=True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def try_acquire(path: Path) -> int | None:
    """Return the descriptor of an exclusive lock on a file, or None when it is locked."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if _lock(descriptor, shared=False, wait=False):
        return descriptor
    os.close(descriptor)
    return None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock on a file."""
    descriptor = acquire(path)
    try:
        yield
    finally:
        os.close(descriptor)


def publish(path: Path, contents: str) -> int:
    """Write a file that is valid for as long as the returned descriptor stays open."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, contents.encode())
        _lock(descriptor, shared=False, wait=True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_published(path: Path) -> str | None:
    """Return what a running process has published in a file, or None."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        if _lock(descriptor, shared=True, wait=False):
            return None
        return os.read(descriptor, 4096).decode()
    finally:
        os.close(descriptor)
