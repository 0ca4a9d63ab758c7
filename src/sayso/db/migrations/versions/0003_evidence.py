"""Attempts remember what their provider let us know: fetches, callbacks, twins."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


INT64: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the columns; nothing is known of earlier attempts."""
    for name in ("fetched_at", "called_at", "twin_of"):
        op.add_column("predictions", sa.Column(name, INT64, nullable=True))


def downgrade() -> None:
    """Refuse: the way back is the copy that was made before the upgrade."""
    raise NotImplementedError
