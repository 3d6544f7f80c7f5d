"""The error of this package."""


class PostgresError(Exception):
    """A sentence for the developer: what is wrong and what to do about it."""
