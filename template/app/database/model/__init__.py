"""The tables, in one module each.

Every module in this folder is imported here, so that the metadata is complete. Alembic would
propose to drop the table of a model that is not imported.
"""

from importlib import import_module
from pkgutil import iter_modules

# A table takes the names of its constraints from the metadata when its class is made. A model that
# is a plain SQLModel does not import them itself.
import app.database.base  # noqa: F401

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
