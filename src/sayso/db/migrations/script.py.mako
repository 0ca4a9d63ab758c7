"""${message}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Say what changes, and that old code still runs on the result."""


def downgrade() -> None:
    """Refuse: the way back is the copy that was made before the upgrade."""
    raise NotImplementedError
