"""The error of this package."""


class PostgresError(Exception):
    """Something the user can put right; the message is a sentence that says how."""
