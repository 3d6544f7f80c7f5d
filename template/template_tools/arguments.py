"""The parser of a command, whose own words are in the language of the project too."""

import argparse
from argparse import ArgumentParser

from template_tools.messages import translated

__all__ = ["ArgumentParser"]


def _by_number(one: str, several: str, number: int) -> str:
    return translated(one if number == 1 else several)


# argparse looks up what it says with gettext, which reads catalogues of another format.
vars(argparse).update(_=translated, ngettext=_by_number)
