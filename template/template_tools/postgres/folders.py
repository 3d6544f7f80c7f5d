"""Where a server keeps its state, and the account that it runs as.

PostgreSQL refuses to run as root. Root therefore runs it as `postgres` or `nobody`, which as a rule
cannot enter the project, so root keeps the state in a private folder that this account can enter.
An ordinary user keeps it in the project's `.dev/`.
"""

import hashlib
import os
import secrets
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from template_tools.postgres import locks
from template_tools.postgres.binaries import Binaries
from template_tools.postgres.errors import PostgresError

if sys.platform != "win32":
    import pwd

PRIVATE_PARENTS = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108
PRIVATE_NAME = "postgres-devtools"


@dataclass(frozen=True, slots=True)
class Account:
    """The account that owns the data and runs the server."""

    uid: int
    gid: int


if sys.platform == "win32":

    def server_account() -> Account | None:
        """Return None: there the server runs as the user who starts it."""
        return None

else:

    def server_account() -> Account | None:
        """Return the account for a server that root starts; None for that of the user."""
        if os.geteuid() != 0:
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
    """Return the folder with all state of a project's server, which need not exist yet."""
    root = root.resolve()
    if server_account() is None:
        return root / ".dev" / "postgres" / profile
    parent = next((parent for parent in PRIVATE_PARENTS if os.access(parent, os.W_OK)), None)
    if parent is None:
        raise PostgresError(
            f"As root the database needs a folder in {PRIVATE_PARENTS[0]}, which is read-only. "
            "Work as an ordinary user, or set DATABASE_URL."
        )
    project = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return parent / PRIVATE_NAME / project / profile


def make_state_folder(root: Path, profile: str) -> Path:
    """Create the folder with all state of a project's server, unless it exists, and return it."""
    folder = state_folder(root, profile)
    (root / ".dev").mkdir(mode=0o700, exist_ok=True)
    if server_account() is None:
        _make_own_folder(folder.parent, 0o700)
        _make_own_folder(folder, 0o700)
    else:
        _make_private_folder(folder, root / ".dev" / "database-id")
    return folder


def _make_private_folder(folder: Path, identity_file: Path) -> None:
    """Create a folder outside the project, unless the project has it already.

    It is found by the project's path, so the project that lies there now must be the one that made
    it: without its `.dev/` a project begins anew, as it does where `.dev/` holds the data.
    """
    with locks.locked(identity_file):
        identity = identity_file.read_text() or secrets.token_hex(8)
        identity_file.write_text(identity)
        # The account may walk through these folders to its data, but not look around.
        for part in (folder.parent.parent, folder.parent):
            _make_own_folder(part, 0o711)
        owner_file = folder.parent / "project"
        if not _says(owner_file, identity):
            for left in folder.parent.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            owner_file.write_text(identity)
        _make_own_folder(folder, 0o711)


def _says(file: Path, text: str) -> bool:
    try:
        return file.read_text() == text
    except FileNotFoundError:
        return False


def _make_own_folder(folder: Path, mode: int) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        _refuse_foreign_folder(folder)
    else:
        folder.chmod(mode)


def _refuse_foreign_folder(folder: Path) -> None:
    """Refuse a folder that another user may have prepared, for example as a symbolic link."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise PostgresError(f"{folder} is not a folder. Remove it and try again.")
    if sys.platform != "win32" and status.st_uid != os.geteuid():
        raise PostgresError(
            f"{folder} belongs to another user. Remove it, or work as the user who owns it."
        )
    if sys.platform != "win32" and status.st_mode & 0o022:
        raise PostgresError(f"Others may write to {folder}. Run `chmod go-w {folder}`.")


def reachable_binaries(binaries: Binaries, account: Account | None, folder: Path) -> Binaries:
    """Return the binaries, or a copy of them in `folder` where the account cannot enter theirs."""
    if account is None or _runs(binaries, account):
        return binaries
    if binaries.folder.parts[-2:] != ("pginstall", "bin"):
        raise PostgresError(
            f"PostgreSQL runs as uid {account.uid} here, which cannot run {binaries.folder}. "
            "Make it readable to all, run `uv sync`, or set DATABASE_URL."
        )
    copy = folder / f"binaries-{binaries.version}"
    if not copy.exists():
        for stale in folder.glob("binaries-*"):
            shutil.rmtree(stale)
        unfinished = folder / "binaries-unfinished"
        package = binaries.folder.parent.parent
        # The programs look for their libraries in a folder next to the package.
        for name in ("pginstall/bin", "pginstall/lib", "pginstall/share"):
            _copy_tree(package / name, unfinished / package.name / name)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            _copy_tree(libraries, unfinished / libraries.name)
        unfinished.rename(copy)
    package_parent = binaries.folder.parents[2]
    reachable = Binaries(copy / binaries.folder.relative_to(package_parent), binaries.version)
    if not _runs(reachable, account):
        raise PostgresError(
            f"uid {account.uid} cannot run the PostgreSQL in {reachable.folder}. "
            "Work as an ordinary user, or set DATABASE_URL."
        )
    return reachable


def _runs(binaries: Binaries, account: Account) -> bool:
    for name in ("postgres", "initdb"):
        try:
            answer = subprocess.run(
                [binaries.program(name), "--version"],
                cwd="/",
                user=account.uid,
                group=account.gid,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
        except PermissionError:
            return False
        if answer.returncode != 0:
            return False
    return True


def _copy_tree(source: Path, target: Path) -> None:
    """Copy a tree so that all can read it, with hard links where the file system allows."""
    target.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.is_dir():
            _copy_tree(entry, target / entry.name)
        elif entry.suffix != ".a":
            _copy_file(entry.resolve(), target / entry.name)


def _copy_file(source: Path, target: Path) -> None:
    mode = source.stat().st_mode
    readable = mode | (0o055 if mode & 0o100 else 0o044)
    if mode == readable:
        try:
            target.hardlink_to(source)
        except OSError:
            pass  # Another file system, or one without hard links.
        else:
            return
    shutil.copyfile(source, target)
    target.chmod(stat.S_IMODE(readable))
