"""The first schema: tables, indexes, guards and the system's accounts.

What the tables mean is told in `db/tables.py`; a test compares the two. The guards stand here only:
triggers that refuse what no code of ours may do, in one wording for both databases.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TEXT: Final = sa.Text()
INT64: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create everything, in the order that foreign keys ask for."""
    _create_accounts_and_bytes()
    _create_generations()
    _create_ledger()
    _create_attempts()
    _create_edges()
    _create_guards()
    _insert_system_accounts()


def downgrade() -> None:
    """Refuse: the way back is the copy that was made before the upgrade."""
    raise NotImplementedError


def _create_accounts_and_bytes() -> None:
    """Whose they are, and what is stored for them."""
    op.create_table(
        "accounts",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("balance", INT64, server_default=sa.text("0"), nullable=False),
        sa.Column("held", INT64, server_default=sa.text("0"), nullable=False),
        sa.Column("version", INT64, server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", INT64, nullable=False),
        sa.CheckConstraint(
            "kind = 'customer' OR (balance = 0 AND held = 0)",
            name="ck_accounts_system_keeps_no_balance",
        ),
        sa.CheckConstraint(
            "kind = 'system' OR balance - held >= 0", name="ck_accounts_available_not_negative"
        ),
        sa.CheckConstraint("kind IN ('customer', 'system')", name="ck_accounts_kind_known"),
        sa.CheckConstraint("held >= 0", name="ck_accounts_held_not_negative"),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sqlite_strict=True,
    )
    op.create_table(
        "artifacts",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("size_bytes", INT64, nullable=False),
        sa.Column("content_type", TEXT, nullable=False),
        sa.Column("storage_key", TEXT, nullable=False),
        sa.Column("facts", TEXT, server_default="{}", nullable=False),
        sa.Column("created_at", INT64, nullable=False),
        sa.CheckConstraint(
            "kind IN ('portrait', 'speech', 'video')", name="ck_artifacts_kind_known"
        ),
        sa.CheckConstraint("size_bytes >= 0", name="ck_artifacts_size_not_negative"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_artifacts_account_id"),
        sa.PrimaryKeyConstraint("id", name="pk_artifacts"),
        sa.UniqueConstraint(
            "account_id", "kind", "sha256", name="uq_artifacts_account_id_kind_sha256"
        ),
        sqlite_strict=True,
    )
    op.create_index("ix_artifacts_storage_key", "artifacts", ["storage_key"], unique=False)
    op.create_table(
        "files",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("content_type", TEXT, nullable=False),
        sa.Column("size_bytes", INT64, nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("md5", TEXT, nullable=False),
        sa.Column("storage_key", TEXT, nullable=False),
        sa.Column("metadata", TEXT, server_default="{}", nullable=False),
        sa.Column("created_at", INT64, nullable=False),
        sa.Column("expires_at", INT64, nullable=False),
        sa.CheckConstraint("size_bytes >= 0", name="ck_files_size_not_negative"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_files_account_id"),
        sa.PrimaryKeyConstraint("id", name="pk_files"),
        sqlite_strict=True,
    )
    op.create_index("ix_files_expires_at", "files", ["expires_at"], unique=False)
    op.create_index("ix_files_listed", "files", ["account_id", "created_at", "id"], unique=False)


def _create_generations() -> None:
    """What was asked for."""
    op.create_table(
        "generations",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("door", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("public_status", TEXT, nullable=False),
        sa.Column("version", INT64, server_default=sa.text("1"), nullable=False),
        sa.Column("portrait_id", TEXT, nullable=True),
        sa.Column("speech_id", TEXT, nullable=True),
        sa.Column("prompt", TEXT, nullable=True),
        sa.Column("options", TEXT, server_default="{}", nullable=False),
        sa.Column("input_echo", TEXT, nullable=True),
        sa.Column("price_micros", INT64, nullable=False),
        sa.Column("rate_micros", INT64, nullable=False),
        sa.Column("seconds", INT64, nullable=False),
        sa.Column("percent", INT64, server_default=sa.text("0"), nullable=False),
        sa.Column("basis", TEXT, nullable=False),
        sa.Column("stage", TEXT, nullable=True),
        sa.Column("logs", TEXT, nullable=True),
        sa.Column("video_id", TEXT, nullable=True),
        sa.Column("error_code", TEXT, nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("quality", TEXT, nullable=True),
        sa.Column("notices", TEXT, server_default="[]", nullable=False),
        sa.Column("due_at", INT64, nullable=True),
        sa.Column("lease_until", INT64, server_default=sa.text("0"), nullable=False),
        sa.Column("claim_token", TEXT, nullable=True),
        sa.Column("attempts", INT64, server_default=sa.text("0"), nullable=False),
        sa.Column("deadline_at", INT64, nullable=True),
        sa.Column("cancel_requested_at", INT64, nullable=True),
        sa.Column("cancel_after_s", INT64, nullable=True),
        sa.Column("webhook_url", TEXT, nullable=True),
        sa.Column("webhook_events", TEXT, nullable=True),
        sa.Column("created_at", INT64, nullable=False),
        sa.Column("started_at", INT64, nullable=True),
        sa.Column("completed_at", INT64, nullable=True),
        sa.Column("changed_at", INT64, nullable=False),
        sa.Column("deleted_at", INT64, nullable=True),
        sa.CheckConstraint(
            "(state IN ('succeeded', 'failed', 'canceled')) = (completed_at IS NOT NULL)",
            name="ck_generations_completed_iff_final",
        ),
        sa.CheckConstraint(
            "CASE WHEN state IN ('succeeded', 'failed', 'canceled') THEN public_status = state"
            " ELSE public_status IN ('starting', 'processing') END",
            name="ck_generations_public_status_fits",
        ),
        sa.CheckConstraint("basis IN ('measured', 'estimated')", name="ck_generations_basis_known"),
        sa.CheckConstraint(
            "door IN ('api', 'v1', 'page', 'cli')", name="ck_generations_door_known"
        ),
        sa.CheckConstraint(
            "state <> 'failed' OR error IS NOT NULL", name="ck_generations_failure_has_a_reason"
        ),
        sa.CheckConstraint(
            "state <> 'succeeded' OR video_id IS NOT NULL OR deleted_at IS NOT NULL",
            name="ck_generations_success_has_a_video",
        ),
        sa.CheckConstraint(
            "state IN ('created', 'submitting', 'running', 'storing',"
            " 'succeeded', 'failed', 'canceled')",
            name="ck_generations_state_known",
        ),
        sa.CheckConstraint(
            "state IN ('succeeded', 'failed', 'canceled') OR due_at IS NOT NULL",
            name="ck_generations_live_is_due_some_time",
        ),
        sa.CheckConstraint("attempts >= 0", name="ck_generations_attempts_not_negative"),
        sa.CheckConstraint("percent BETWEEN 0 AND 100", name="ck_generations_percent_in_range"),
        sa.CheckConstraint(
            "price_micros = rate_micros * seconds",
            name="ck_generations_price_is_rate_times_seconds",
        ),
        sa.CheckConstraint(
            "rate_micros >= 0 AND seconds >= 1", name="ck_generations_price_not_negative"
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_generations_account_id"),
        sa.ForeignKeyConstraint(
            ["portrait_id"], ["artifacts.id"], name="fk_generations_portrait_id"
        ),
        sa.ForeignKeyConstraint(["speech_id"], ["artifacts.id"], name="fk_generations_speech_id"),
        sa.ForeignKeyConstraint(["video_id"], ["artifacts.id"], name="fk_generations_video_id"),
        sa.PrimaryKeyConstraint("id", name="pk_generations"),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_generations_changed", "generations", ["account_id", "changed_at"], unique=False
    )
    op.create_index(
        "ix_generations_due",
        "generations",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_generations_history", "generations", ["model", "completed_at"], unique=False
    )
    op.create_index(
        "ix_generations_listed", "generations", ["account_id", "created_at", "id"], unique=False
    )
    op.create_index("ix_generations_portrait", "generations", ["portrait_id"], unique=False)
    op.create_index("ix_generations_speech", "generations", ["speech_id"], unique=False)
    op.create_index("ix_generations_video", "generations", ["video_id"], unique=False)


def _create_ledger() -> None:
    """Money: holds, transfers, entries."""
    op.create_table(
        "holds",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("generation_id", TEXT, nullable=False),
        sa.Column("amount", INT64, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("captured", INT64, server_default=sa.text("0"), nullable=False),
        sa.Column("release_reason", TEXT, nullable=True),
        sa.Column("created_at", INT64, nullable=False),
        sa.Column("closed_at", INT64, nullable=True),
        sa.CheckConstraint(
            "(state = 'captured') = (captured > 0)", name="ck_holds_captured_iff_captured"
        ),
        sa.CheckConstraint(
            "(state = 'held') = (closed_at IS NULL)", name="ck_holds_closed_iff_not_held"
        ),
        sa.CheckConstraint(
            "(state = 'released') = (release_reason IS NOT NULL)",
            name="ck_holds_reason_iff_released",
        ),
        sa.CheckConstraint(
            "release_reason IN ('failed', 'canceled', 'expired')",
            name="ck_holds_release_reason_known",
        ),
        sa.CheckConstraint(
            "state IN ('held', 'captured', 'released')", name="ck_holds_state_known"
        ),
        sa.CheckConstraint("amount > 0", name="ck_holds_amount_positive"),
        sa.CheckConstraint(
            "captured >= 0 AND captured <= amount", name="ck_holds_captured_within_amount"
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_holds_account_id"),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name="fk_holds_generation_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
        sa.UniqueConstraint("generation_id", name="uq_holds_generation_id"),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_holds_open",
        "holds",
        ["account_id"],
        unique=False,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "transfers",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("debit_account", TEXT, nullable=False),
        sa.Column("credit_account", TEXT, nullable=False),
        sa.Column("amount", INT64, nullable=False),
        sa.Column("hold_id", TEXT, nullable=True),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("created_at", INT64, nullable=False),
        sa.CheckConstraint(
            "(kind = 'capture') = (hold_id IS NOT NULL)", name="ck_transfers_hold_iff_capture"
        ),
        sa.CheckConstraint(
            "kind IN ('grant', 'capture', 'adjustment', 'loss')", name="ck_transfers_kind_known"
        ),
        sa.CheckConstraint("amount > 0", name="ck_transfers_amount_positive"),
        sa.CheckConstraint("debit_account <> credit_account", name="ck_transfers_two_accounts"),
        sa.ForeignKeyConstraint(
            ["credit_account"], ["accounts.id"], name="fk_transfers_credit_account"
        ),
        sa.ForeignKeyConstraint(
            ["debit_account"], ["accounts.id"], name="fk_transfers_debit_account"
        ),
        sa.ForeignKeyConstraint(["hold_id"], ["holds.id"], name="fk_transfers_hold_id"),
        sa.PrimaryKeyConstraint("id", name="pk_transfers"),
        sqlite_strict=True,
    )
    op.create_index(
        "uq_transfers_capture",
        "transfers",
        ["hold_id"],
        unique=True,
        sqlite_where=sa.text("kind = 'capture'"),
        postgresql_where=sa.text("kind = 'capture'"),
    )
    op.create_table(
        "entries",
        sa.Column("transfer_id", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("amount", INT64, nullable=False),
        sa.Column("balance_after", INT64, nullable=True),
        sa.Column("version", INT64, nullable=True),
        sa.CheckConstraint(
            "(balance_after IS NULL) = (version IS NULL)", name="ck_entries_numbered_with_balance"
        ),
        sa.CheckConstraint("amount <> 0", name="ck_entries_amount_not_zero"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_entries_account_id"),
        sa.ForeignKeyConstraint(["transfer_id"], ["transfers.id"], name="fk_entries_transfer_id"),
        sa.PrimaryKeyConstraint("transfer_id", "account_id", name="pk_entries"),
        sa.UniqueConstraint("account_id", "version", name="uq_entries_account_id_version"),
        sqlite_strict=True,
    )


def _create_attempts() -> None:
    """What providers are asked to do."""
    op.create_table(
        "predictions",
        sa.Column("generation_id", TEXT, nullable=False),
        sa.Column("attempt", INT64, nullable=False),
        sa.Column("nonce", TEXT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("provider_id", TEXT, nullable=True),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("output", TEXT, nullable=True),
        sa.Column("cost_micros", INT64, server_default=sa.text("0"), nullable=False),
        sa.Column("loss_transfer_id", TEXT, nullable=True),
        sa.Column("raw_error", TEXT, nullable=True),
        sa.Column("metrics", TEXT, nullable=True),
        sa.Column("created_at", INT64, nullable=False),
        sa.Column("submitted_at", INT64, nullable=True),
        sa.Column("missed_at", INT64, nullable=True),
        sa.Column("finished_at", INT64, nullable=True),
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
    op.create_index(
        "ix_predictions_open",
        "predictions",
        ["provider_id"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "renders",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("nonce", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("inputs", TEXT, server_default="{}", nullable=False),
        sa.Column("frames_done", INT64, server_default=sa.text("0"), nullable=False),
        sa.Column("frames_total", INT64, nullable=True),
        sa.Column("worker", TEXT, nullable=True),
        sa.Column("claim_token", TEXT, nullable=True),
        sa.Column("lease_until", INT64, server_default=sa.text("0"), nullable=False),
        sa.Column("attempts", INT64, server_default=sa.text("0"), nullable=False),
        sa.Column("cancel_requested_at", INT64, nullable=True),
        sa.Column("error_code", TEXT, nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("output_key", TEXT, nullable=True),
        sa.Column("quality", TEXT, nullable=True),
        sa.Column("notices", TEXT, server_default="[]", nullable=False),
        sa.Column("created_at", INT64, nullable=False),
        sa.Column("started_at", INT64, nullable=True),
        sa.Column("finished_at", INT64, nullable=True),
        sa.CheckConstraint(
            "(state IN ('succeeded', 'failed', 'canceled')) = (finished_at IS NOT NULL)",
            name="ck_renders_finished_iff_final",
        ),
        sa.CheckConstraint(
            "state <> 'succeeded' OR output_key IS NOT NULL",
            name="ck_renders_success_has_an_output",
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'rendering', 'succeeded', 'failed', 'canceled')",
            name="ck_renders_state_known",
        ),
        sa.CheckConstraint("frames_done >= 0", name="ck_renders_frames_not_negative"),
        sa.PrimaryKeyConstraint("id", name="pk_renders"),
        sa.UniqueConstraint("nonce", name="uq_renders_nonce"),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_renders_open",
        "renders",
        ["created_at", "id"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )


def _create_edges() -> None:
    """What comes in twice, what goes out, what is secret."""
    op.create_table(
        "idempotency_keys",
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("generation_id", TEXT, nullable=True),
        sa.Column("status", INT64, nullable=True),
        sa.Column("body", TEXT, nullable=True),
        sa.Column("created_at", INT64, nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="fk_idempotency_keys_account_id"
        ),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name="fk_idempotency_keys_generation_id"
        ),
        sa.PrimaryKeyConstraint("account_id", "key", name="pk_idempotency_keys"),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False
    )
    op.create_table(
        "callbacks_seen",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("received_at", INT64, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_callbacks_seen"),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_callbacks_seen_received_at", "callbacks_seen", ["received_at"], unique=False
    )
    op.create_table(
        "webhooks",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("generation_id", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("event", TEXT, nullable=False),
        sa.Column("body", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("attempts", INT64, server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", INT64, nullable=True),
        sa.Column("lease_until", INT64, server_default=sa.text("0"), nullable=False),
        sa.Column("claim_token", TEXT, nullable=True),
        sa.Column("last_error", TEXT, nullable=True),
        sa.Column("created_at", INT64, nullable=False),
        sa.Column("delivered_at", INT64, nullable=True),
        sa.CheckConstraint(
            "(state = 'pending') = (due_at IS NOT NULL)", name="ck_webhooks_due_iff_pending"
        ),
        sa.CheckConstraint(
            "event IN ('start', 'output', 'logs', 'completed')", name="ck_webhooks_event_known"
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'failed')", name="ck_webhooks_state_known"
        ),
        sa.ForeignKeyConstraint(
            ["generation_id"], ["generations.id"], name="fk_webhooks_generation_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_webhooks_due",
        "webhooks",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("ix_webhooks_generation_id", "webhooks", ["generation_id"], unique=False)
    op.create_table(
        "secrets",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("created_at", INT64, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secrets"),
        sqlite_strict=True,
    )


FINAL: Final = "('succeeded', 'failed', 'canceled')"

GUARDS: Final = (
    # name, table, when, condition (None: always), what the refusal says
    ("transfers_stay", "transfers", "UPDATE", None, "a transfer is never changed"),
    ("transfers_remain", "transfers", "DELETE", None, "a transfer is never deleted"),
    ("entries_stay", "entries", "UPDATE", None, "an entry is never changed"),
    ("entries_remain", "entries", "DELETE", None, "an entry is never deleted"),
    ("accounts_remain", "accounts", "DELETE", None, "an account is never deleted"),
    ("holds_remain", "holds", "DELETE", None, "a hold is never deleted"),
    ("holds_begin_held", "holds", "INSERT", "NEW.state <> 'held'", "a hold begins held"),
    ("holds_end_once", "holds", "UPDATE", "OLD.state <> 'held'", "a settled hold is final"),
    (
        "holds_keep_their_promise",
        "holds",
        "UPDATE",
        (
            "NEW.id <> OLD.id OR NEW.account_id <> OLD.account_id OR NEW.amount <> OLD.amount"
            " OR NEW.generation_id <> OLD.generation_id OR NEW.created_at <> OLD.created_at"
        ),
        "what a hold promises is never changed",
    ),
    (
        "generations_end_once",
        "generations",
        "UPDATE",
        f"OLD.state IN {FINAL} AND NEW.state <> OLD.state",
        "the state of a finished generation is final",
    ),
    (
        "generations_keep_their_price",
        "generations",
        "UPDATE",
        (
            "NEW.id <> OLD.id OR NEW.account_id <> OLD.account_id OR NEW.seconds <> OLD.seconds"
            " OR NEW.rate_micros <> OLD.rate_micros OR NEW.price_micros <> OLD.price_micros"
            " OR NEW.created_at <> OLD.created_at"
        ),
        "the owner and the price of a generation are never changed",
    ),
    (
        "generations_go_forwards",
        "generations",
        "UPDATE",
        (
            "NEW.version < OLD.version"
            " OR (OLD.public_status = 'processing' AND NEW.public_status = 'starting')"
        ),
        "a generation's version and public status never go backwards",
    ),
    (
        "predictions_keep_their_ids",
        "predictions",
        "UPDATE",
        (
            "NEW.nonce <> OLD.nonce OR (OLD.provider_id IS NOT NULL"
            " AND (NEW.provider_id IS NULL OR NEW.provider_id <> OLD.provider_id))"
        ),
        "the ids of a prediction are never changed",
    ),
    (
        "renders_end_once",
        "renders",
        "UPDATE",
        f"OLD.state IN {FINAL} AND NEW.state <> OLD.state",
        "the state of a finished render is final",
    ),
)

SQLITE_GUARD: Final = """
    CREATE TRIGGER {name} BEFORE {action} ON {table} {when}
    BEGIN SELECT RAISE(ABORT, '{message}'); END
"""
POSTGRESQL_REFUSE: Final = """
    CREATE FUNCTION sayso_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'restrict_violation';
    END $$
"""
POSTGRESQL_GUARD: Final = """
    CREATE TRIGGER {name} BEFORE {action} ON {table}
    FOR EACH ROW {when} EXECUTE FUNCTION sayso_refuse('{message}')
"""
POSTGRESQL_TRUNCATE_GUARD: Final = """
    CREATE TRIGGER {table}_not_truncated BEFORE TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION sayso_refuse('the ledger is never emptied')
"""


def _create_guards() -> None:
    """Refuse in the database what would rewrite history."""
    is_sqlite = op.get_context().dialect.name == "sqlite"
    if not is_sqlite:
        op.execute(POSTGRESQL_REFUSE)
        for table in ("transfers", "entries", "holds"):
            op.execute(POSTGRESQL_TRUNCATE_GUARD.format(table=table))
    guard = SQLITE_GUARD if is_sqlite else POSTGRESQL_GUARD
    for name, table, action, condition, message in GUARDS:
        when = f"WHEN ({condition})" if condition else ""
        text = message.replace("'", "''")
        op.execute(guard.format(name=name, table=table, action=action, when=when, message=text))


def _insert_system_accounts() -> None:
    """Add the other side of every transfer."""
    for name in ("grants", "revenue", "adjustments", "losses", "providers"):
        op.execute(
            f"INSERT INTO accounts (id, kind, created_at) VALUES ('sys:{name}', 'system', 0)"  # noqa: S608
        )
