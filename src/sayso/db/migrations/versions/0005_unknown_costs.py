"""What an attempt cost is NULL until it is known, so that 0 says that it cost nothing.

SQLite cannot change a column: its table is made anew, with its index and its guard. Earlier zeros
become unknown where they may have been that: attempts whose end nobody has seen, and successes of
providers that charge.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

INT64: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT: Final = sa.Text()

FORGET: Final = """
    UPDATE predictions SET cost_micros = NULL
     WHERE cost_micros = 0 AND state NOT IN ('refused', 'absent')
       AND (finished_at IS NULL OR state = 'submitting'
            OR state = 'succeeded' AND provider <> 'embedded')
"""
GUARD: Final = """
    CREATE TRIGGER predictions_keep_their_ids BEFORE UPDATE ON predictions
    WHEN (NEW.nonce <> OLD.nonce OR (OLD.provider_id IS NOT NULL
     AND (NEW.provider_id IS NULL OR NEW.provider_id <> OLD.provider_id)))
    BEGIN SELECT RAISE(ABORT, 'the ids of a prediction are never changed'); END
"""
COLUMNS: Final = (
    "generation_id, attempt, nonce, provider, provider_id, state, output, cost_micros,"
    " loss_transfer_id, raw_error, metrics, created_at, submitted_at, missed_at, finished_at,"
    " fetched_at, called_at, twin_of"
)


def upgrade() -> None:
    """Let the column be NULL; see the module's docstring."""
    if op.get_context().dialect.name == "sqlite":
        _make_anew()
    else:
        op.alter_column("predictions", "cost_micros", nullable=True, server_default=None)
    op.execute(FORGET)


def _make_anew() -> None:
    op.execute("DROP TRIGGER predictions_keep_their_ids")
    op.drop_index("ix_predictions_open", "predictions")
    op.rename_table("predictions", "earlier_predictions")
    _create_predictions()
    op.execute(f"INSERT INTO predictions ({COLUMNS}) SELECT {COLUMNS} FROM earlier_predictions")  # noqa: S608 (our own words)
    op.drop_table("earlier_predictions")
    op.create_index(
        "ix_predictions_open",
        "predictions",
        ["provider_id"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
    )
    op.execute(GUARD)


def _create_predictions() -> None:
    op.create_table(
        "predictions",
        sa.Column("generation_id", TEXT, nullable=False),
        sa.Column("attempt", INT64, nullable=False),
        sa.Column("nonce", TEXT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("provider_id", TEXT, nullable=True),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("output", TEXT, nullable=True),
        sa.Column("cost_micros", INT64, nullable=True),
        sa.Column("loss_transfer_id", TEXT, nullable=True),
        sa.Column("raw_error", TEXT, nullable=True),
        sa.Column("metrics", TEXT, nullable=True),
        sa.Column("created_at", INT64, nullable=False),
        sa.Column("submitted_at", INT64, nullable=True),
        sa.Column("missed_at", INT64, nullable=True),
        sa.Column("finished_at", INT64, nullable=True),
        sa.Column("fetched_at", INT64, nullable=True),
        sa.Column("called_at", INT64, nullable=True),
        sa.Column("twin_of", INT64, nullable=True),
        sa.CheckConstraint(
            "state IN ('submitting', 'refused', 'absent', 'starting', 'processing',"
            " 'succeeded', 'failed', 'canceled')",
            name="ck_predictions_state_known",
        ),
        sa.CheckConstraint("attempt >= 1", name="ck_predictions_attempt_from_one"),
        sa.CheckConstraint("cost_micros >= 0", name="ck_predictions_cost_not_negative"),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name="fk_predictions_generation_id"
        ),
        sa.ForeignKeyConstraint(
            ["loss_transfer_id"], ["transfers.id"], name="fk_predictions_loss_transfer_id"
        ),
        sa.PrimaryKeyConstraint("generation_id", "attempt", name="pk_predictions"),
        sa.UniqueConstraint("loss_transfer_id", name="uq_predictions_loss_transfer_id"),
        sa.UniqueConstraint("nonce", name="uq_predictions_nonce"),
        sa.UniqueConstraint("provider", "provider_id", name="uq_predictions_provider_provider_id"),
        sqlite_strict=True,
    )


def downgrade() -> None:
    """Refuse: the way back is the copy that was made before the upgrade."""
    raise NotImplementedError
