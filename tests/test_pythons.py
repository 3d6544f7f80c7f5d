"""The newer Pythons that a project may choose run its tests, and most of the template's parts'.

They come from the packages of Debian's testing, in a root file system of their own; elsewhere CI
runs them with the interpreters of uv.
"""

import os
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.service_tests import ANSWERS, lay_over
from tests.answers import Answers
from tests.debian import NotInstallable, bootstrap
from tests.hostile import choices
from tests.projects import Project, output, run, uv

# They take as long as all others, and depend on PostgreSQL rather than on Python.
LEFT_OUT = " ".join(f"--ignore=tests/service/{it}" for it in ("database", "hostile", "tools"))
PYTHONS = sorted({*choices("python_version")} - {"3.13"})


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with these Pythons, uv, and the certificates of this machine."""
    folder = tmp_path_factory.mktemp("debian")
    packages = [name for it in PYTHONS for name in (f"python{it}", f"python{it}-venv")]
    try:
        root = bootstrap(folder, "forky", *packages, "ca-certificates", "git")
    except NotInstallable as error:
        pytest.skip(str(error))
    program = shutil.which("uv") or run(*uv(), "python", "find", cwd=folder).stdout.strip()
    if not program.endswith("uv"):
        program = str(Path(program).with_name("uv"))
    shutil.copy(program, root / "usr/local/bin/uv")
    certificates = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    shutil.copy(certificates or "/etc/ssl/certs/ca-certificates.crt", root / "srv/certificates.pem")
    return root


def run_tests(project: Project, debian: Path, version: str, options: str) -> None:
    """Run a project's tests in the root file system."""
    shutil.copytree(project.folder, debian / "srv" / version, dirs_exist_ok=True)
    environment = {
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SSL_CERT_FILE": "/srv/certificates.pem",
        "UV_EXCLUDE_NEWER": project.env["UV_EXCLUDE_NEWER"],
        "UV_PYTHON_DOWNLOADS": "never",
    }
    # The programs of PostgreSQL find their libraries with /proc, which ends with the namespace.
    script = f"""
mount -t proc proc {debian}/proc
exec chroot {debian} sh -c 'cd /srv/{version} && uv run --quiet pytest --quiet {options}'
"""
    done = run("unshare", "--mount", "sh", "-ec", script, cwd=debian, env=environment)
    assert done.returncode == 0, output(done)


@pytest.mark.takes_minutes
def test_the_tests_of_a_project_pass_on_the_newest(
    make_project: Callable[[Answers], Project], debian: Path
) -> None:
    project = make_project(ANSWERS | {"python_version": PYTHONS[-1]})
    run_tests(project, debian, PYTHONS[-1], "")


# CI has a job for each.
@pytest.mark.long
@pytest.mark.parametrize("version", PYTHONS)
def test_those_of_the_template_s_parts_pass_too(
    make_project: Callable[[Answers], Project], debian: Path, version: str
) -> None:
    project = make_project(ANSWERS | {"python_version": version})
    lay_over(project.folder)
    run_tests(project, debian, version, LEFT_OUT)
