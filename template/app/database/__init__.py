"""``base.py`` and ``session.py`` are the template's; ``model/`` is yours, a module for a table."""
