"""Where a server keeps its state, and the account that it runs as.

An ordinary user has the state in the project's `.dev/`. PostgreSQL refuses to run as root, so root
runs it as `postgres` or `nobody`. This account usually cannot enter the project, so the state is
then in a folder outside, which root owns and the account can traverse.
"""

import hashlib
import os
import secrets
import shutil
import stat
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from template_tools.postgres import locks
from template_tools.postgres.binaries import WHEELS, Binaries, PostgresError

if sys.platform != "win32":
    import pwd

PRIVATE_PARENTS = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108
PRIVATE_NAME = "postgres-devtools"


@dataclass(frozen=True, slots=True)
class Account:
    """The account that owns the data and runs the server."""

    uid: int
    gid: int


def server_account() -> Account | None:
    """Return the account for a server that root starts; None for everybody else's."""
    # On Windows the server runs as the user who starts it.
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in known and known[name].pw_uid != 0:
            return Account(known[name].pw_uid, known[name].pw_gid)
    raise PostgresError(
        "PostgreSQL refuses to run as root, and this machine has neither an account "
        "`postgres` nor `nobody`. Work as an ordinary user, or set DATABASE_URL."
    )


def state_folder(root: Path, profile: str) -> Path:
    """Return the folder with the state of a project's server, which may not exist yet."""
    root = root.resolve()
    if server_account() is None:
        return root / ".dev" / "postgres" / profile
    parent = next((parent for parent in PRIVATE_PARENTS if os.access(parent, os.W_OK)), None)
    if parent is None:
        raise PostgresError(
            "As root the database needs a folder in {folder}, which is read-only. "
            "Work as an ordinary user, or set DATABASE_URL.",
            folder=PRIVATE_PARENTS[0],
        )
    project = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return parent / PRIVATE_NAME / project / profile


def make_state_folder(root: Path, profile: str) -> Path:
    """Return the folder with the state of a project's server; create it if need be."""
    folder = state_folder(root, profile)
    (root / ".dev").mkdir(mode=0o700, exist_ok=True)
    if server_account() is None:
        _make_own_folder(folder.parent, 0o700)
        _make_own_folder(folder, 0o700)
    else:
        _make_private_folder(folder, root / ".dev" / "database-id")
    return folder


def _make_private_folder(folder: Path, identity_file: Path) -> None:
    """Create a folder outside the project, and empty one that belonged to another project.

    The folder is named after the project's path, where a new project may have replaced the one that
    made it. An identity in `.dev/` tells them apart: without its `.dev/` a project starts with an
    empty database, as it does for an ordinary user.
    """
    with locks.locked(identity_file):
        identity = identity_file.read_text() or secrets.token_hex(8)
        identity_file.write_text(identity)
        # The account may traverse these folders to reach its data, but not list them.
        for part in (folder.parent.parent, folder.parent):
            _make_own_folder(part, 0o711)
        owner_file = folder.parent / "project"
        if not owner_file.exists() or owner_file.read_text() != identity:
            for left in folder.parent.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            owner_file.write_text(identity)
        _make_own_folder(folder, 0o711)


def _make_own_folder(folder: Path, mode: int) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        _refuse_foreign_folder(folder)
    else:
        folder.chmod(mode)


def _refuse_foreign_folder(folder: Path) -> None:
    """Refuse a folder that another user may have planted, for example as a symbolic link."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise PostgresError("{path} is not a folder. Remove it and try again.", path=folder)
    if sys.platform != "win32" and status.st_uid != os.geteuid():
        raise PostgresError(
            "{folder} belongs to another user. Remove it, or work as the user who owns it.",
            folder=folder,
        )
    if sys.platform != "win32" and status.st_mode & 0o022:
        raise PostgresError(
            "Others may write to {folder}. Run `chmod go-w {folder}`.", folder=folder
        )


def reachable_binaries(binaries: Binaries, account: Account | None, folder: Path) -> Binaries:
    """Return the binaries, or a copy of them in `folder` where the account cannot run them."""
    if account is None or _runs(binaries, account):
        return binaries
    prefix, package = binaries.folder.parent, binaries.folder.parent.parent
    if (package.name, prefix.name) not in WHEELS:
        raise PostgresError(
            "As root, PostgreSQL runs as uid {uid}, which cannot run {folder}. "
            "Make it readable for all, run `uv sync`, or set DATABASE_URL.",
            uid=account.uid,
            folder=binaries.folder,
        )
    copy = folder / f"binaries-{binaries.version}"
    if not copy.exists():
        for stale in folder.glob("binaries-*"):
            shutil.rmtree(stale)
        unfinished = folder / "binaries-unfinished"
        for name in ("bin", "lib", "share"):
            _copy_tree(prefix / name, unfinished / package.name / prefix.name / name)
        # The programs look for their libraries in a folder next to the package.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            _copy_tree(libraries, unfinished / libraries.name)
        unfinished.rename(copy)
    reachable = Binaries(copy / binaries.folder.relative_to(package.parent), binaries.version)
    if not _runs(reachable, account):
        raise PostgresError(
            "uid {uid} cannot run the PostgreSQL in {folder}. "
            "Work as an ordinary user, or set DATABASE_URL.",
            uid=account.uid,
            folder=reachable.folder,
        )
    return reachable


def _runs(binaries: Binaries, account: Account) -> bool:
    try:
        answer = subprocess.run(
            [binaries.program("postgres"), "--version"],
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
    except PermissionError:
        return False
    return answer.returncode == 0


def _copy_tree(source: Path, target: Path) -> None:
    """Copy a tree so that everybody can read it, with hard links where possible."""
    target.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.is_dir():
            _copy_tree(entry, target / entry.name)
        elif entry.suffix != ".a":
            _copy_file(entry.resolve(), target / entry.name)


def _copy_file(source: Path, target: Path) -> None:
    mode = stat.S_IMODE(source.stat().st_mode)
    readable = mode | (0o055 if mode & 0o100 else 0o044)
    if mode == readable:
        # This fails on another file system, or on one without hard links.
        with suppress(OSError):
            target.hardlink_to(source)
            return
    shutil.copyfile(source, target)
    target.chmod(readable)
