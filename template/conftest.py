"""The template's fixtures; yours go into ``tests/conftest.py``."""

pytest_plugins = ["template_tools.pytest_plugin"]
