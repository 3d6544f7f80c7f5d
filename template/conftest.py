"""The template's fixtures; yours go into ``tests/conftest.py``."""

pytest_plugins = ["devtools.pytest_plugin"]
