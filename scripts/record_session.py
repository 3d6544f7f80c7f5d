"""Record docs/session.svg: the questions, `poe dev`, and a call with a token, in a real terminal.

The terminal is tmux's, which must be installed, and port 8000 must be free. What is typed is run,
but for the address of the template, which stands for this working tree.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import east_asian_width
from xml.sax.saxutils import escape

TEMPLATE = Path(__file__).resolve().parents[1]
FILE = TEMPLATE / "docs" / "session.svg"
COLUMNS, LINES = 80, 24
_CELL, _LINE, _MARGIN = 8.4, 18, 16
_COPY = "uvx copier copy gh:YOUR-ORG/fastapi-sso-template my-service"
# The classes of the styles in which copier, uv and poe write.
_STYLES = {"1": "b", "2": "d", "31": "r", "32": "g", "33": "y", "34": "u", "36": "c"}
_SHIM = '#!/bin/sh\nexec {command} "$@"\n'


@dataclass
class Recording:
    """What a terminal of tmux shows, each picture for some seconds."""

    folder: Path
    shell: str
    above: str = ""
    frames: list[tuple[str, float]] = field(default_factory=list)

    def tmux(self, *command: str) -> str:
        """Run a command of tmux, on a server that nobody else uses."""
        return subprocess.run(
            ["/usr/bin/env", "tmux", "-f", "/dev/null", "-S", self.folder / "tmux", *command],
            check=True,
            capture_output=True,
            encoding="utf-8",
        ).stdout

    def open(self, folder: Path) -> None:
        """Open a terminal; a second one is shown below the last lines of the first."""
        size = ("-x", str(COLUMNS), "-y", str(LINES))
        command = ("new-window",) if self.frames else ("new-session", "-d", *size)
        if self.frames:
            lines = self.frames[-1][0].rstrip("\n").split("\n")[-15:]
            self.above = "\n".join([*lines, f"\x1b[2m{'_' * COLUMNS}\x1b[0m", ""])
        self.tmux(*command, "-c", str(folder), self.shell)
        time.sleep(0.5)
        self.record(0.5)

    def type(self, text: str, *, until: str, seconds: float = 1.5) -> None:
        """Type a line, and record it; then record what follows once ``until`` is shown."""
        if text:
            self.tmux("send-keys", "-l", text)
            time.sleep(0.3)
            self.record(0.8)
        before = self.tmux("capture-pane", "-p", "-J")
        self.tmux("send-keys", "Enter")
        deadline = time.monotonic() + 60
        while (shown := self.tmux("capture-pane", "-p", "-J")) == before or until not in shown:
            if time.monotonic() > deadline:
                raise SystemExit(f"{until!r} was not shown, but:\n{shown}")
            time.sleep(0.1)
        time.sleep(0.3)
        self.record(seconds)

    def record(self, seconds: float) -> None:
        """Keep what is shown now."""
        shown = self.tmux("capture-pane", "-e", "-p").replace(str(self.folder), "/home/you")
        shown = self.above + shown
        if self.frames and self.frames[-1][0] == shown:
            shown, passed = self.frames.pop()
            seconds += passed
        self.frames.append((shown, seconds))


def main() -> int:
    """Write the picture of a session in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="session-") as name:
        folder = Path(name)
        programs = folder / "bin"
        programs.mkdir()
        uv = shutil.which("uv") or os.environ.get("UV") or f"{sys.executable} -m uv"
        # Nobody else gets the warning about a working tree with changes.
        quiet = f"env PYTHONWARNINGS=ignore {TEMPLATE}/.venv/bin/copier"
        copier = f"{quiet} copy --vcs-ref HEAD {TEMPLATE} my-service #"
        for program, command in (("uv", uv), ("uvx", copier)):
            (programs / program).write_text(_SHIM.format(command=command))
            (programs / program).chmod(0o755)
        recording = Recording(folder, _shell(programs))
        try:
            record(recording)
        finally:
            recording.tmux("kill-server")
        FILE.write_text(picture(recording.frames), "utf-8")
    print(f"{FILE.relative_to(TEMPLATE)}: {FILE.stat().st_size // 1024} kB")
    return 0


def _shell(programs: Path) -> str:
    """Return the command of a shell without settings of anybody's, which finds the programs."""
    unset = ("NO_COLOR", "FORCE_COLOR", "VIRTUAL_ENV", "PROMPT_COMMAND", "UV")
    values = (f"PATH={programs}{os.pathsep}{os.environ['PATH']}", "PS1=$ ", "LANG=C.UTF-8")
    words = ["env", *(word for name in unset for word in ("-u", name)), *values]
    return shlex.join([*words, "bash", "--norc", "--noprofile"])


def record(recording: Recording) -> None:
    """Answer the questions, serve the project, and call it from another terminal."""
    recording.open(recording.folder)
    recording.type(_COPY, until="El idioma", seconds=1)
    recording.type("", until="as people say it")
    recording.tmux("send-keys", *["BSpace"] * 20)
    recording.type("Orders", until="One sentence", seconds=1)
    recording.tmux("send-keys", *["BSpace"] * 30)
    recording.type("Takes the orders of the shop.", until="for machines", seconds=1)
    for until in ("Python", "CI", "pull request", "elsewhere", "PostgreSQL", "issuer", "checked"):
        recording.type("", until=until, seconds=1.2)
    recording.type("", until="Valkey", seconds=1)
    recording.type("", until="password here", seconds=1)
    recording.type("", until="is ready", seconds=4)
    recording.tmux("send-keys", "clear", "Enter")
    time.sleep(0.3)
    recording.type("cd my-service && uv run poe dev", until="/api/v1/user/me", seconds=6)
    recording.open(recording.folder / "my-service")
    recording.type(
        'curl -H "Authorization: Bearer $(uv run poe token)" http://127.0.0.1:8000/api/v1/user/me',
        until='"username"',
        seconds=6,
    )
    recording.tmux("send-keys", "-t", ":0", "C-c")
    time.sleep(5)


def picture(frames: list[tuple[str, float]]) -> str:
    """Return the frames as an SVG that plays them, or shows the last where nothing may move."""
    height = LINES * _LINE + 2 * _MARGIN
    width = round(COLUMNS * _CELL) + 2 * _MARGIN
    total = sum(seconds for _, seconds in frames)
    passed, steps, drawn = 0.0, "", ""
    for number, (shown, seconds) in enumerate(frames):
        steps += f"{100 * passed / total:.2f}%{{transform:translateY({-number * height}px)}}"
        passed += seconds
        lines = shown.split("\n")[:LINES]
        drawn += "".join(
            _drawn(line, number * height + _MARGIN + (at + 1) * _LINE - 5)
            for at, line in enumerate(lines)
        )
    last = (1 - len(frames)) * height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" aria-labelledby="t"><title id="t">A terminal: the questions'
        " of copier copy are answered, uv run poe dev serves the project, and curl calls it with a"
        " token.</title>\n<style>"
        "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
        "fill:#d6dbe1;white-space:pre}.b{font-weight:700}.d{fill:#8b949e}.r{fill:#ff7b72}"
        ".g{fill:#7ee787}.y{fill:#e3b341}.u{fill:#79c0ff}.c{fill:#76e3ea}"
        f"#f{{transform:translateY({last}px);animation:p {total:.1f}s step-end infinite}}"
        f"@keyframes p{{{steps}}}"
        "@media(prefers-reduced-motion:reduce){#f{animation:none}}</style>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="#161b22"/>'
        f'<svg width="{width}" height="{height}"><g id="f">\n{drawn}</g></svg></svg>\n'
    )


def _drawn(line: str, y: int) -> str:
    """Return a line of the terminal, each run of one style at its own place."""
    style, column, runs = "", 0, []
    for part in re.split(r"(\x1b\[[\d;]*m|\x1b[()]\w|\x0e|\x0f)", line.rstrip()):
        if part.startswith("\x1b["):
            codes = part[2:-1].split(";")
            style = "" if codes[0] in {"", "0"} else style
            style = " ".join(filter(None, [style, *(_STYLES.get(code, "") for code in codes)]))
        elif part and part[0] not in "\x1b\x0e\x0f":
            width = _columns(part)
            if part.strip():
                classes = f' class="{style}"' if style else ""
                x = f"{_MARGIN + column * _CELL:.1f}".removesuffix(".0")
                fit = f' textLength="{width * _CELL:.1f}"' if width > 1 else ""
                runs.append(f'<text x="{x}" y="{y}"{fit}{classes}>{escape(part)}</text>')
            column += width
    return "".join(runs) + "\n" * bool(runs)


def _columns(text: str) -> int:
    # A variation selector makes a symbol an emoji, of two columns as others.
    return sum(
        0 if it in "\ufe0f\u200d" else 2 if east_asian_width(it) in "WF" else 1 for it in text
    )


if __name__ == "__main__":
    sys.exit(main())
