"""The tools speak Spanish in a project that asks for it, and nothing that they say is left out."""

import ast
import importlib.util
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import httpx2
import pytest

from tests import messages
from tests.answers import DEFAULTS, Answers
from tests.messages import TOOLS, files, placeholders, said, said_by_argparse, spanish, unsaid
from tests.processes import wait_until
from tests.projects import Project, Projects, output
from tests.test_dev import STOP_SECONDS, Running, http, running_dev

SPANISH = DEFAULTS | {"language": "es"}
# The words that Spanish developers use as they are.
SAME = {"Scopes", "Token"}
# What looks like a sentence, and says nothing that could be translated.
NOT_TRANSLATED = {
    "error: {}": "it is the same word",
    "dev:": "a command's name",
    "test-template: {}; log: {}": "names, and what pytest says",
    "\n{}\n\n  uv run {}\n  uv run poe check\n  uv run poe test": "commands",
    "| GET | CPU ÷ /livez | CPU ms | p50 ÷ | p50 ms | p99 ÷ | p99 ms |": "units",
    'f"{words} {{number}}\\nand more"': "code of the resource",
    "from app.api.v1.{}.router import router as {}": "code of the resource",
    "new file mode 100644\n": "a diff",
    "amber harbour silver meadow north bridge green valley quiet river bright summit\n"
    "    blue garden stone market open field early window round table": "made-up data",
    'Bearer realm="development provider"': "a header",
    'Basic realm="development provider", charset="UTF-8"': "a header",
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "frame-ancestors 'none'; base-uri 'none'": "a header",
    "Development identity provider": "the title of an API whose description is not served",
    "openid profile email": "scopes",
}


def test_every_message_has_a_text_in_spanish() -> None:
    missing = {message: file for message, file in said().items() if message not in spanish()}
    assert missing == {}


def test_the_catalogue_has_no_message_that_nobody_says() -> None:
    assert [it for it in spanish() if it not in said() and it not in said_by_argparse()] == []


def test_the_catalogue_is_in_order() -> None:
    assert [*spanish()] == sorted(spanish())


def test_what_is_filled_in_is_the_same_in_both_languages() -> None:
    different = {
        message: text
        for message, text in spanish().items()
        if placeholders(message) != placeholders(text)
    }
    assert different == {}


def test_both_languages_have_the_same_space_around_a_message() -> None:
    edges = re.compile(r"\A(\s*).*?(\s*)\Z", re.DOTALL)
    different = {
        message: text
        for message, text in spanish().items()
        if edges.sub(r"\1|\2", message) != edges.sub(r"\1|\2", text)
    }
    assert different == {}


def test_no_message_is_left_in_english() -> None:
    assert {message for message, text in spanish().items() if message == text} == SAME


def test_a_message_is_written_where_it_is_looked_up() -> None:
    where = {path.name: [*messages.unreadable(ast.parse(path.read_text()))] for path in files("py")}
    assert {name: lines for name, lines in where.items() if lines} == {}


def test_no_other_text_is_for_people() -> None:
    found = {text: path.name for path in files("py", "html", "js") for text in unsaid(path)}
    assert {text: name for text, name in found.items() if text not in NOT_TRANSLATED} == {}
    assert NOT_TRANSLATED.keys() - found.keys() == set(), "no file has these any more"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ('print("Stopped.")', "Stopped."),
        ('print(f"Stopped {name}")', "Stopped {}"),
        ('print("Yes" if right else "No")', "Yes"),
        ('parser.add_argument("--port", help="port")', "port"),
        ('raise DevError(f"Port {port} is in use.")', "Port {} is in use."),
        ('_(f"Port {port} is in use.")', "Port {} is in use."),
        ('REASON = "It is in use"', "It is in use"),
        ('marked("<b>Copy</b>")', "Copy"),
        ("marked('<b title=\"Copy\">$x</b>')", "Copy"),
    ],
)
def test_a_text_that_is_not_looked_up_is_noticed(code: str, text: str) -> None:
    assert text in messages.unsaid_in(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        '"""What this is about."""',
        'print(_("It is in use."))',
        'raise DevError("Port {port} is in use.", port=port)',
        'raise ValueError("The URL names no host.")',
        'query = "SELECT something FROM somewhere"',
        'print(f"  {path}")',
        'marked("<b>[[Copy]]</b>")',
    ],
)
def test_what_is_looked_up_or_not_for_people_is_no_finding(code: str) -> None:
    assert [*messages.unsaid_in(ast.parse(code))] == []


def tools_module(folder: Path, catalogue: str | None) -> ModuleType:
    """Import what looks messages up, beside this catalogue."""
    shutil.copy(TOOLS / "messages.py", folder)
    if catalogue is not None:
        (folder / "spanish.json").write_text(catalogue, "utf-8")
    spec = importlib.util.spec_from_file_location("messages_in_test", folder / "messages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("catalogue", "text"),
    [
        ('{"Port {port} is in use.": "El puerto {port} está en uso."}', "El puerto 1 está en uso."),
        ('{"Another.": "Otro."}', "Port 1 is in use."),
        (None, "Port 1 is in use."),
        ("<<<<<<< before updating", "Port 1 is in use."),
    ],
)
def test_what_the_catalogue_lacks_is_said_in_english(
    tmp_path: Path, catalogue: str | None, text: str
) -> None:
    module = tools_module(tmp_path, catalogue)
    assert module._("Port {port} is in use.", port=1) == text
    assert str(module.Problem("Port {port} is in use.", port=1)) == text


def test_a_message_without_values_keeps_its_braces(tmp_path: Path) -> None:
    module = tools_module(tmp_path, None)
    assert module._('{"info": {}}') == '{"info": {}}'


@pytest.fixture(scope="module")
def project(make_project: Callable[[Answers], Project]) -> Project:
    return make_project(SPANISH)


def test_only_a_project_in_spanish_has_the_catalogue(projects: Projects) -> None:
    catalogue = Path("template_tools", "spanish.json")
    assert (projects.rendered(SPANISH) / catalogue).exists()
    assert not (projects.rendered(DEFAULTS) / catalogue).exists()


@pytest.mark.parametrize(
    ("command", "code", "texts"),
    [
        ("template_tools.token_command", 1, ["no está en marcha: inícialo con `uv run poe dev`"]),
        ("template_tools.token_command --expires-in x", 2, ["uso: uv run poe token", "tipo int"]),
        ("template_tools.generator invoice number", 1, ['"number" no es un campo: escribe']),
        ("template_tools.generator invoice due:day", 1, ["no es ni un tipo", "Tipos: str, text,"]),
        ("template_tools.generator invoices due:date", 1, ["en singular", "parece un plural"]),
        (
            "template_tools.generator --help",
            0,
            ["uso: ", "Escribe un recurso: su tabla", "opciones:", "muestra esta ayuda", "un día"],
        ),
        ("template_tools.bench --help", 0, ["Mide las rutas GET", "un rol del token"]),
        (
            "template_tools.dev --help",
            0,
            ["Inicia el servicio y lo que necesita. Sin DATABASE_URL"],
        ),
        (
            "template_tools.postgres --help",
            0,
            ["Ejecuta un comando con", "argumentos posicionales"],
        ),
        ("template_tools.provider --help", 0, ["Inicia el proveedor", "el puerto (0: cualquiera"]),
        ("template_tools.seed --help", 0, ["Llena las tablas con filas ficticias", "semilla"]),
        ("template_tools.template_status --help", 0, ["Dice si la plantilla tiene una versión"]),
        ("template_tools.dev --port 0", 2, ["argumento --port: un puerto es un número de 1 a"]),
        ("template_tools.dev --colour", 2, ["argumentos desconocidos: --colour"]),
        ("template_tools.dev --port", 2, ["argumento --port: se esperaba un argumento"]),
        ("template_tools.postgres", 2, ["faltan estos argumentos: command"]),
        ("template_tools.postgres db --url", 1, ["error: No hay ningún servidor de base de datos"]),
        ("template_tools.seed --rows 0", 2, ["argumento --rows: un número de 1 a 10000"]),
        ("template_tools.bench order", 2, ["order no es una ruta: escríbela como /api/v1/order/"]),
        ("pytest --markers", 0, ["la prueba tiene una base de datos propia"]),
    ],
)
def test_a_command_speaks_spanish(
    project: Project, command: str, code: int, texts: list[str]
) -> None:
    done = project.tool("python", "-m", *command.split())
    assert done.returncode == code, output(done)
    # How argparse breaks the lines depends on the texts.
    words = " ".join(output(done).split())
    assert [text for text in texts if " ".join(text.split()) not in words] == [], output(done)
    assert "Traceback" not in output(done)


def test_a_plan_is_told_in_spanish_and_its_code_is_english(project: Project) -> None:
    done = project.poe("--quiet", "resource", "invoice", "number:str:unique", "--dry-run")
    assert done.returncode == 0, output(done)
    assert 'Estos archivos, y la migración "Add invoices":' in done.stderr
    assert done.stderr.endswith("No se escribió nada.\n")
    in_english = replace(project, folder=project.folder.with_name("english"))
    shutil.copytree(project.folder, in_english.folder, symlinks=True)
    (in_english.folder / "template_tools" / "spanish.json").unlink()
    said = in_english.poe("--quiet", "resource", "invoice", "number:str:unique", "--dry-run")
    assert said.stdout == done.stdout
    assert "Nothing was written." in said.stderr


def test_releases_that_cannot_be_read_are_told_in_spanish(project: Project) -> None:
    without_uv = replace(project, env={**project.env, "UV": "/nowhere/uv"})
    done = without_uv.tool("python", "-m", "template_tools.template_status")
    assert done.returncode == 2
    assert done.stderr.startswith("No se pueden leer las versiones de la plantilla: ")


@pytest.fixture(scope="class")
def dev(
    make_project: Callable[[Answers], Project], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    with running_dev(make_project(SPANISH), tmp_path_factory.mktemp("dev")) as service:
        yield service


@pytest.fixture(scope="class")
def provider(dev: Running) -> str:
    """The address of the development provider."""
    found = re.search(r"Proveedor de identidad +(\S+?)/?\n", dev.said())
    assert found is not None, dev.said()
    return found[1]


class TestWhileItRuns:
    def test_it_says_in_spanish_where_everything_is(self, dev: Running) -> None:
        said = dev.said()
        for text in (
            "dev: iniciando el PostgreSQL integrado\n",
            "dev: aplicando las migraciones\n",
            f"\n  Servicio                 http://127.0.0.1:{dev.port}\n",
            f"\n  Documentación de la API  http://127.0.0.1:{dev.port}/docs\n",
            "\n  ¿Quién soy? En otra terminal:\n",
        ):
            assert text in said

    def test_the_answers_of_the_service_are_english(self, dev: Running) -> None:
        refused = dev.get("/api/v1/user/me")
        assert refused.json()["detail"] == "A bearer token is required."

    def test_a_token_is_all_that_goes_to_the_standard_output(self, dev: Running) -> None:
        done = dev.project.poe("--quiet", "token", "--as", "somebody")
        assert re.fullmatch(r"\S+\n", done.stdout)
        assert done.stderr.startswith("Aquí nadie se llama somebody, así que")

    def test_the_reason_of_a_refused_token_is_spanish_too(self, dev: Running) -> None:
        done = dev.project.poe("--quiet", "token", "--as", "x" * 101)
        assert done.returncode == 1
        assert done.stderr == (
            "El proveedor rechaza este token: Un nombre tiene de 1 a 100 caracteres imprimibles.\n"
        )

    def test_a_pipe_gets_the_url_and_nothing_else(self, dev: Running) -> None:
        done = dev.project.poe("--quiet", "db", "--url")
        assert re.fullmatch(r"postgresql://app:\S+\n", done.stdout)
        assert done.stderr == ""

    def test_the_development_page_is_spanish(self, dev: Running, provider: str) -> None:
        dev.get("/api/v1/user/me", "unknown")
        page = http.get(f"{provider}/")
        assert page.status_code == 200
        for text in (
            '<html lang="es">',
            '<h2 id="who">¿Quién quieres ser?</h2>',
            "<p>Todos los scopes y ningún rol.</p>",
            'aria-label="Documentación como ana"',
            'data-copy="Copiar"',
            ">Tarda 10 segundos</button>",
            '<th scope="col">Quién</th>',
            "<td>Desconocido: el texto aleatorio",
        ):
            assert text in page.text
        assert "[[" not in page.text

    def test_the_login_page_is_spanish(self, provider: str) -> None:
        page = http.get(f"{provider}/authorize", params=self._login(provider))
        assert page.status_code == 200
        assert '<html lang="es">' in page.text
        assert "<h1>Inicio de sesión de desarrollo</h1>" in page.text
        assert ">Iniciar sesión</button>" in page.text
        assert "[[" not in page.text

    def test_an_error_is_spanish_on_a_page_and_english_in_a_protocol(self, provider: str) -> None:
        page = http.get(f"{provider}/authorize", params={"redirect_uri": ""})
        assert "<h1>Este inicio de sesión no puede continuar</h1>" in page.text
        assert "<p>Falta el parámetro redirect_uri.</p>" in page.text
        answer = http.post(f"{provider}/token", data={"client_id": "docs"})
        assert answer.json()["error_description"] == "The parameter grant_type is missing."
        unsafe = self._login(provider) | {"code_challenge_method": "plain"}
        back = http.get(f"{provider}/authorize", params=unsafe, follow_redirects=False)
        description = httpx2.URL(back.headers["location"]).params["error_description"]
        assert description == "PKCE with code_challenge_method=S256 is required."

    def test_it_says_in_spanish_that_it_has_stopped(self, dev: Running) -> None:
        os.killpg(dev.process.pid, signal.SIGINT)
        wait_until(lambda: dev.process.poll() is not None, STOP_SECONDS, dev.said)
        assert "\nSe detuvo el servicio y todo lo que se había iniciado para él.\n" in dev.said()
        assert "Traceback" not in dev.said()

    @staticmethod
    def _login(provider: str) -> dict[str, str]:
        assert provider
        return {
            "client_id": "docs",
            "redirect_uri": "http://127.0.0.1:8000/docs/oauth2-redirect",
            "response_type": "code",
            "code_challenge": "a" * 43,
            "code_challenge_method": "S256",
        }
