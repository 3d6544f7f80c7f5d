"""``uv run poe guard``: find what would break or lose something in a project that updates.

Ends with 1 if a change is forbidden, or if CHANGELOG.md does not say what it must.
"""

import argparse
import sys
from pathlib import Path

import jinja2
import yaml

from scripts.guard.judgement import judge

REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> int:
    """Judge the work tree of this repository, and return the exit code."""
    parser = argparse.ArgumentParser(prog="uv run poe guard", description=__doc__)
    parser.parse_args()
    try:
        judgement = judge(REPOSITORY)
    except (yaml.YAMLError, jinja2.TemplateError) as error:
        print(f"guard: copier.yml cannot be read: {error}", file=sys.stderr)
        return 2
    print(judgement.report())
    return 0 if judgement.passed else 1


if __name__ == "__main__":
    sys.exit(main())
