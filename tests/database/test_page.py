"""What docs/scaling.md shows can be executed as it stands."""

import re

from tests.database.servers import Postgres
from tests.projects import REPOSITORY

PAGE = (REPOSITORY / "docs" / "scaling.md").read_text("utf-8")


def test_the_statements_of_the_page_are_those_of_postgresql(primary: Postgres) -> None:
    blocks = re.findall(r"^```sql\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        primary.sql(block)
