"""Nothing that a provider sends makes the service fail, or accept what it should not."""

import json
from importlib.metadata import distribution
from pathlib import Path

from tests.projects import Projects, output, run

_PROGRAM = Path(__file__).parent / "rendered" / "hostile_replies.py"
_EXAMPLES = 1000


def test_no_reply_of_a_provider_is_a_bug_or_lets_a_bad_token_in(
    projects: Projects, tmp_path: Path
) -> None:
    """Any bytes, any JSON, any headers, any keys, and tokens that were tampered with."""
    # What a rendered project does not have is borrowed from here.
    for borrowed in map(distribution, ("hypothesis", "sortedcontainers")):
        for name in {path.parts[0] for path in borrowed.files or () if path.suffix == ".py"}:
            (tmp_path / name).symlink_to(Path(str(borrowed.locate_file(name))))
    environment = projects.environment()
    python = Path(environment["UV_PROJECT_ENVIRONMENT"]) / "bin" / "python"
    environment["PYTHONPATH"] = f"{projects.rendered({})}:{tmp_path}"

    done = run(python, _PROGRAM, str(_EXAMPLES), cwd=tmp_path, env=environment, timeout=600)

    assert done.returncode == 0, output(done)
    seen = json.loads(done.stdout)
    # Where nothing good is accepted, nothing has been tried.
    promises = {outcome.rpartition(" ")[0] for outcome in seen}
    assert [promise for promise in promises if f"{promise} 200" not in seen] == []
