"""Tables that a test run writes into a page of the documentation, between two marks."""

from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class KeptTable:
    """The place of one table: its page, and the comments around it."""

    page: Path
    begin: str
    end: str

    def read(self) -> str:
        """Return the table as the page has it."""
        return self.page.read_text("utf-8").partition(self.begin)[2].partition(self.end)[0]

    def write(self, table: str) -> None:
        """Replace the table; it ends with a line break."""
        before, begin, rest = self.page.read_text("utf-8").partition(self.begin)
        _, end, after = rest.partition(self.end)
        if not (begin and end):
            raise pytest.UsageError(f"{self.page} lacks {self.begin} or {self.end}")
        self.page.write_text(before + begin + table + end + after, "utf-8")
