"""Judges what has changed in the template since the last release, before projects receive it.

``template.py`` reads a version of the template, ``rules.py`` says what a rule is, the modules
``about_*.py`` hold the rules, and ``judgement.py`` applies them. ``uv run poe guard`` runs it.
"""
