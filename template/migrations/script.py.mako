<%!
    def statements(text):
        """Leave out the two remarks that Alembic writes around them."""
        lines = (line for line in text.splitlines() if not line.lstrip().startswith("# ###"))
        return "\n".join(lines).strip() or "pass"
%>\
"""${message}.

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
% if branch_labels:
branch_labels = ${repr(branch_labels)}
% endif
% if depends_on:
depends_on = ${repr(depends_on)}
% endif


def upgrade() -> None:
    ${upgrades or "" | statements}


def downgrade() -> None:
    ${downgrades or "" | statements}
