"""The template's: what a token is worth. Updates mend it."""
