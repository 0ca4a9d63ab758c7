"""Portraits have a thumbnail in their row, so that lists can show who spoke."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; earlier portraits have none, and stay as they are."""
    small = sa.CheckConstraint(
        "length(thumbnail) BETWEEN 1 AND 4096", name="ck_artifacts_thumbnail_small"
    )
    op.add_column("artifacts", sa.Column("thumbnail", sa.LargeBinary(), small, nullable=True))


def downgrade() -> None:
    """Refuse: the way back is the copy that was made before the upgrade."""
    raise NotImplementedError
