"""Generations remember how their customer addressed us, so that webhooks can hold whole links."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; earlier generations have no address, and no webhook either."""
    op.add_column("generations", sa.Column("base_url", sa.Text(), nullable=True))


def downgrade() -> None:
    """Refuse: the way back is the copy that was made before the upgrade."""
    raise NotImplementedError
