"""Programs from the packages of Debian, for tests that run the real thing without being root."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.projects import locked, output, run, succeed


class NotInstallable(Exception):
    """This machine lacks what a program needs; the message is one sentence that says what."""


@dataclass(frozen=True)
class Program:
    """A program, and the variables with which it finds its libraries."""

    path: Path
    env: Mapping[str, str]


def find_program(path: str, package: str, folder: Path) -> Program:
    """Return ``/path`` of this machine, or of the package, which is extracted below ``folder``.

    Raises:
        NotInstallable: There is no apt-get, or it does not find the package.
    """
    machine = Path("/") / path
    if machine.exists():
        return Program(machine, {})
    root = folder / "root"
    if not root.exists():
        folder.mkdir(parents=True, exist_ok=True)
        extract(folder, package)
    return Program(root / path, library_path(root))


def find_or_skip(path: str, package: str, shared_folder: Path) -> Program:
    """Return a program as ``find_program`` does, or skip the test and say why.

    With ``REQUIRE_`` and the package in the environment, such as REQUIRE_NGINX, the test fails.
    """
    with locked(shared_folder / f"{package}.lock"):
        try:
            return find_program(path, package, shared_folder / package)
        except NotInstallable as reason:
            if os.environ.get(f"REQUIRE_{package.upper()}"):
                raise
            pytest.skip(f"{package}: {reason}")


def library_path(root: Path) -> dict[str, str]:
    """Return the variable with which programs below ``root`` find its libraries."""
    patterns = ("usr/lib/*/*.so.*", "usr/lib/*/*/lib*.so")
    found = (library for pattern in patterns for library in root.glob(pattern))
    libraries = sorted({str(library.parent) for library in found})
    return {"LD_LIBRARY_PATH": ":".join(libraries)}


def with_libraries(program: Program, folder: Path) -> list[str | Path]:
    """Return the words before the program's arguments, for one that starts itself without its env.

    In a mount namespace of its own, the machine's list of libraries has the program's too. That
    needs root, and is not needed for a program of the machine's own.
    """
    if not program.env:
        return [program.path]
    conf, cache = folder / "ld.so.conf", folder / "ld.so.cache"
    folders = program.env["LD_LIBRARY_PATH"].split(":")
    conf.write_text("\n".join([*folders, "include /etc/ld.so.conf", ""]))
    succeed("/sbin/ldconfig", "-X", "-f", conf, "-C", cache, cwd=folder)
    script = 'mount --bind "$0" /etc/ld.so.cache; exec "$@"'
    return ["unshare", "--mount", "sh", "-euc", script, cache, program.path]


def extract(folder: Path, *packages: str) -> None:
    """Download packages, and those that they need and this machine lacks, into ``folder/root``.

    Everything is written below ``folder``, and nothing of it needs to be root. The package
    manager's own lists may be missing or too old, therefore they are fetched too.

    Raises:
        NotInstallable: There is no apt-get, or it does not find the packages.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise NotInstallable("It is a package of Debian, and apt-get or dpkg-deb is not in PATH.")
    with TemporaryDirectory(dir=folder) as name:
        scratch = Path(name)
        for path in ("lists/partial", "cache/archives/partial", "packages", "root"):
            (scratch / path).mkdir(parents=True)
        apt_get = [
            "apt-get",
            f"--option=Dir::State::Lists={scratch / 'lists'}",
            f"--option=Dir::Cache={scratch / 'cache'}",
            "--option=APT::Sandbox::User=",
            "--option=Acquire::http::Timeout=20",
        ]
        # Its status says nothing: a hook of the machine may fail, and a missing list may not.
        run(*apt_get, "update", cwd=folder)
        options = ["--simulate", "--no-install-recommends"]
        plan = run(*apt_get, "install", *options, *packages, cwd=folder)
        names = [line.split()[1] for line in plan.stdout.splitlines() if line.startswith("Inst ")]
        done = run(*apt_get, "download", *names, cwd=scratch / "packages")
        if not names or done.returncode:
            lines = output(done if names else plan).splitlines()
            errors = [line for line in lines if line.startswith("E: ")]
            raise NotInstallable(
                f"It could not be downloaded ({' '.join(errors)[:300]});"
                f" `sudo apt-get install {' '.join(packages)}` installs it."
            )
        for file in (scratch / "packages").iterdir():
            succeed("dpkg-deb", "--extract", file, scratch / "root", cwd=folder)
        (scratch / "root").rename(folder / "root")


def bootstrap(folder: Path, suite: str, *packages: str, configured: bool = True) -> Path:
    """Return a root file system below ``folder``, with packages of another suite of Debian.

    Those that are not ``configured`` are only extracted, which takes a third of the time.

    Raises:
        NotInstallable: This is not root, or the suite cannot be installed from here.
    """
    if os.geteuid() != 0 or not shutil.which("unshare"):
        raise NotInstallable("A root file system is made by root, with unshare.")
    debootstrap = find_program("usr/sbin/debootstrap", "debootstrap", folder)
    scripts = debootstrap.path.parents[2] / "usr/share/debootstrap"
    if not (scripts / "scripts" / suite).exists():
        # All suites of these years are made alike; an older debootstrap does not know the name.
        own = folder / "debootstrap"
        shutil.copytree(scripts, own, symlinks=True)
        (own / "scripts" / suite).symlink_to("sid")
        scripts = own
    root = folder / suite
    done = run(
        debootstrap.path,
        "--variant=minbase",
        *([] if configured else ["--download-only"]),
        f"--include={','.join(packages)}",
        suite,
        root,
        cwd=folder,
        env=os.environ | debootstrap.env | {"DEBOOTSTRAP_DIR": str(scripts)},
    )
    if done.returncode:
        last = (output(done).strip().splitlines() or [""])[-1]
        raise NotInstallable(f"Debian's {suite} cannot be installed from here ({last[:200]}).")
    if not configured:
        archives = root / "var/cache/apt/archives"
        for file in sorted(archives.glob("*.deb")):
            succeed("dpkg-deb", "--extract", file, root, cwd=folder)
        shutil.rmtree(archives)
    return root
