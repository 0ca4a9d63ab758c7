"""The whole schema, for SQLite and PostgreSQL alike.

    accounts ─┬─ holds ── transfers ── entries        money: `credits/`
              ├─ generations ─┬─ predictions          work:  `generations/`, `reconciler.py`
              │               └─ webhooks             what we send to customers
              ├─ artifacts, files                     stored bytes
              └─ idempotency_keys
    renders                                           the embedded provider's queue
    callbacks_seen, secrets

Conventions
- Times (`*_at`, `*_until`) are `clock.Instant`: microseconds since the epoch, UTC, as BIGINT.
- Money (`*_micros`, and every amount of the ledger) is a BIGINT of millionths of a dollar.
- Ids are text and come from the caller (`sayso.ids`), so that a repeated write is harmless.
- JSON is text that we encode, the same bytes on both databases (`Json`); a raw read gets the text.
- A row that waits for its time has `due_at`; a partial index on `due_at IS NOT NULL` serves any
  query that says `due_at <= :now`, also with bound parameters.
- SQLite's tables are STRICT: a number column refuses text.

What must hold whatever the code does is written here as constraints, and as triggers in the
migration that creates the tables (`migrations/versions/0001_initial.py`):
- transfers, entries: neither changed nor deleted;
- holds: not deleted; born `held`; closed once; what was promised (account, amount) does not change;
- generations: a final state, the price and the owner do not change; `version` only grows;
  the public status never goes backwards;
- renders: a final state does not change.

The tables are declared once and queried with SQLAlchemy Core (decision 0004).
"""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeDecorator

LIVE_STATES: Final = ("created", "submitting", "running", "storing")
FINAL_STATES: Final = ("succeeded", "failed", "canceled")

Int64: Final = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits on both databases; SQLite's STRICT tables know no BIGINT."""

LOCAL_ACCOUNT: Final = "local"
SYSTEM_ACCOUNTS: Final = (
    "sys:grants",
    "sys:revenue",
    "sys:adjustments",
    "sys:losses",
    "sys:providers",
)
"""The other side of every transfer. They keep no running balance: it would be a hot row."""

metadata: Final = MetaData(
    naming_convention={
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Json(TypeDecorator[Any]):
    """A JSON value kept as compact text; NULL is None."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Encode on the way in (the dialect makes no difference)."""
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """Decode on the way out."""
        return None if value is None else json.loads(value)


def _table(name: str, *parts: SchemaItem) -> Table:
    return Table(name, metadata, *parts, sqlite_strict=True)


def _text(name: str, *parts: SchemaItem, key: bool = False, optional: bool = False) -> Column[Any]:
    return Column(name, Text, *parts, primary_key=key, nullable=optional)


def _number(
    name: str,
    *parts: SchemaItem,
    key: bool = False,
    optional: bool = False,
    default: int | None = None,
) -> Column[Any]:
    start = None if default is None else text(str(default))
    return Column(
        name,
        Int64,
        *parts,
        primary_key=key,
        nullable=optional,
        server_default=start,
        autoincrement=False,
    )


def _json(name: str, *, default: str | None = None) -> Column[Any]:
    return Column(name, Json, nullable=default is None, server_default=default)


def _check(name: str, condition: str) -> CheckConstraint:
    return CheckConstraint(condition, name=name)


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return _check(f"{column}_known", f"{column} IN ({listed})")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


_IS_FINAL: Final = "state IN ('succeeded', 'failed', 'canceled')"

# Money. `credits/store.py` is the only writer.

accounts: Final = _table(
    "accounts",
    _text("id", key=True),
    _text("kind"),
    _number("balance", default=0),  # The sum of its entries; 0 for a system account.
    _number("held", default=0),  # The sum of its open holds.
    _number("version", default=0),  # How many entries it has.
    _number("created_at"),
    _one_of("kind", "customer", "system"),
    _check("held_not_negative", "held >= 0"),
    _check("available_not_negative", "kind = 'system' OR balance - held >= 0"),
    _check("system_keeps_no_balance", "kind = 'customer' OR (balance = 0 AND held = 0)"),
)

holds: Final = _table(
    "holds",
    _text("id", key=True),
    _text("account_id", ForeignKey("accounts.id")),
    _text("generation_id", ForeignKey("generations.id")),
    _number("amount"),
    _text("state"),
    _number("captured", default=0),
    _text("release_reason", optional=True),
    _number("created_at"),
    _number("closed_at", optional=True),
    UniqueConstraint("generation_id"),
    _one_of("state", "held", "captured", "released"),
    _one_of("release_reason", "failed", "canceled", "expired"),
    _check("amount_positive", "amount > 0"),
    _check("captured_within_amount", "captured >= 0 AND captured <= amount"),
    _check("captured_iff_captured", "(state = 'captured') = (captured > 0)"),
    _check("reason_iff_released", "(state = 'released') = (release_reason IS NOT NULL)"),
    _check("closed_iff_not_held", "(state = 'held') = (closed_at IS NULL)"),
    Index("ix_holds_open", "account_id", **_where("closed_at IS NULL")),
)

transfers: Final = _table(
    "transfers",
    _text("id", key=True),
    _text("kind"),
    _text("debit_account", ForeignKey("accounts.id")),
    _text("credit_account", ForeignKey("accounts.id")),
    _number("amount"),
    _text("hold_id", ForeignKey("holds.id"), optional=True),
    _text("reason"),
    _number("created_at"),
    _one_of("kind", "grant", "capture", "adjustment", "loss"),
    _check("amount_positive", "amount > 0"),
    _check("two_accounts", "debit_account <> credit_account"),
    _check("hold_iff_capture", "(kind = 'capture') = (hold_id IS NOT NULL)"),
    Index("uq_transfers_capture", "hold_id", unique=True, **_where("kind = 'capture'")),
)

entries: Final = _table(
    "entries",
    _text("transfer_id", ForeignKey("transfers.id"), key=True),
    _text("account_id", ForeignKey("accounts.id"), key=True),
    _number("amount"),
    _number("balance_after", optional=True),  # NULL, like `version`, for a system account.
    _number("version", optional=True),
    UniqueConstraint("account_id", "version"),
    _check("amount_not_zero", "amount <> 0"),
    _check("numbered_with_balance", "(balance_after IS NULL) = (version IS NULL)"),
)

# Work. `generations/store.py` and `reconciler.py` write these.

generations: Final = _table(
    "generations",
    _text("id", key=True),
    _text("account_id", ForeignKey("accounts.id")),
    _text("door"),
    _text("model"),  # `owner/name`, an entry of the catalogue.
    _text("provider"),
    _text("state"),
    _text("public_status"),
    _number("version", default=1),  # Grows with each change: the ETag and the event's id.
    # What was asked for. The artifacts are cleared when the customer deletes the generation.
    _text("portrait_id", ForeignKey("artifacts.id"), optional=True),
    _text("speech_id", ForeignKey("artifacts.id"), optional=True),
    _text("prompt", optional=True),
    _json("options", default="{}"),
    _json("input_echo"),  # `input` as the client sent it, for the doors that echo it.
    # What it costs: fixed at creation.
    _number("price_micros"),
    _number("rate_micros"),
    _number("seconds"),
    # How far it is.
    _number("percent", default=0),
    _text("basis"),
    _text("stage", optional=True),
    _text("logs", optional=True),
    # What came of it.
    _text("video_id", ForeignKey("artifacts.id"), optional=True),
    _text("error_code", optional=True),
    _text("error", optional=True),
    _json("quality"),
    _json("notices", default="[]"),
    # When it moves next, and who moves it.
    _number("due_at", optional=True),
    _number("lease_until", default=0),
    _text("claim_token", optional=True),
    _number("attempts", default=0),
    _number("deadline_at", optional=True),
    _number("cancel_requested_at", optional=True),
    _number("cancel_after_s", optional=True),
    _text("webhook_url", optional=True),
    _json("webhook_events"),  # The events asked for; NULL is output and completed.
    _number("created_at"),
    _number("started_at", optional=True),
    _number("completed_at", optional=True),
    _number("changed_at"),
    _number("deleted_at", optional=True),
    _text("base_url", optional=True),  # How its customer addressed us: for links in webhooks.
    _one_of("door", "api", "v1", "page", "cli"),
    _one_of("state", *LIVE_STATES, *FINAL_STATES),
    _one_of("basis", "measured", "estimated"),
    _check(
        "public_status_fits",
        f"CASE WHEN {_IS_FINAL} THEN public_status = state"
        " ELSE public_status IN ('starting', 'processing') END",
    ),
    _check("price_is_rate_times_seconds", "price_micros = rate_micros * seconds"),
    _check("price_not_negative", "rate_micros >= 0 AND seconds >= 1"),
    _check("percent_in_range", "percent BETWEEN 0 AND 100"),
    _check("attempts_not_negative", "attempts >= 0"),
    _check("completed_iff_final", f"({_IS_FINAL}) = (completed_at IS NOT NULL)"),
    _check("live_is_due_some_time", f"{_IS_FINAL} OR due_at IS NOT NULL"),
    _check(
        "success_has_a_video",
        "state <> 'succeeded' OR video_id IS NOT NULL OR deleted_at IS NOT NULL",
    ),
    _check("failure_has_a_reason", "state <> 'failed' OR error IS NOT NULL"),
    Index("ix_generations_due", "due_at", **_where("due_at IS NOT NULL")),
    Index("ix_generations_listed", "account_id", "created_at", "id"),
    Index("ix_generations_changed", "account_id", "changed_at"),
    Index("ix_generations_history", "model", "completed_at"),
    Index("ix_generations_portrait", "portrait_id"),
    Index("ix_generations_speech", "speech_id"),
    Index("ix_generations_video", "video_id"),
)

predictions: Final = _table(
    "predictions",
    _text("generation_id", ForeignKey("generations.id"), key=True),
    _number("attempt", key=True),
    _text("nonce"),
    _text("provider"),
    _text("provider_id", optional=True),
    _text("state"),
    _text("output", optional=True),  # Where the provider says its video lies.
    _number("cost_micros", optional=True),  # What the provider charges us; NULL until known.
    _text("loss_transfer_id", ForeignKey("transfers.id"), optional=True),
    _text("raw_error", optional=True),  # The provider's own words, for operators.
    _json("metrics"),
    _number("created_at"),
    _number("submitted_at", optional=True),
    _number("missed_at", optional=True),  # When a search for it first found nothing.
    _number("finished_at", optional=True),
    _number("fetched_at", optional=True),  # When the provider first fetched an input of its own.
    _number("called_at", optional=True),  # When its last callback came.
    _number("twin_of", optional=True),  # The attempt whose create call made this one as well.
    UniqueConstraint("nonce"),
    UniqueConstraint("provider", "provider_id"),
    UniqueConstraint("loss_transfer_id"),
    _one_of(
        "state",
        "submitting",  # Written before the create call, which may be out.
        "refused",  # The provider did not take it.
        "absent",  # Proven never to have been created.
        "starting",
        "processing",
        "succeeded",
        "failed",
        "canceled",
    ),
    _check("attempt_from_one", "attempt >= 1"),
    _check("cost_not_negative", "cost_micros >= 0"),
    Index("ix_predictions_open", "provider_id", **_where("finished_at IS NULL")),
)

renders: Final = _table(
    "renders",
    _text("id", key=True),  # The embedded provider's id of the prediction.
    _text("nonce"),
    _text("state"),
    _json("inputs", default="{}"),
    _number("frames_done", default=0),
    _number("frames_total", optional=True),
    _text("worker", optional=True),
    _text("claim_token", optional=True),
    _number("lease_until", default=0),
    _number("attempts", default=0),  # How often a worker took it up.
    _number("cancel_requested_at", optional=True),
    _text("error_code", optional=True),
    _text("error", optional=True),
    _text("output_key", optional=True),
    _json("quality"),
    _json("notices", default="[]"),
    _number("created_at"),
    _number("started_at", optional=True),
    _number("finished_at", optional=True),
    UniqueConstraint("nonce"),
    _one_of("state", "queued", "rendering", *FINAL_STATES),
    _check("frames_not_negative", "frames_done >= 0"),
    _check("finished_iff_final", f"({_IS_FINAL}) = (finished_at IS NOT NULL)"),
    _check("success_has_an_output", "state <> 'succeeded' OR output_key IS NOT NULL"),
    Index("ix_renders_open", "created_at", "id", **_where("finished_at IS NULL")),
)

# Stored bytes. `artifacts/` keeps the bytes; these rows say whose they are.

artifacts: Final = _table(
    "artifacts",
    _text("id", key=True),
    _text("account_id", ForeignKey("accounts.id")),
    _text("kind"),
    _text("sha256"),  # Of the content; of a video the digest in its key, which is its own.
    _number("size_bytes"),
    _text("content_type"),
    _text("storage_key"),  # This row's alone: nobody else ever has a file of this name.
    _json("facts", default="{}"),  # Duration, size in pixels, face box, warnings.
    _number("created_at"),
    # A portrait's small picture. It is last, and named where it is read: who reads a row's other
    # columns is not to pay for it.
    Column(
        "thumbnail",
        LargeBinary,
        _check("thumbnail_small", "length(thumbnail) BETWEEN 1 AND 4096"),
    ),
    UniqueConstraint("account_id", "kind", "sha256"),
    _one_of("kind", "portrait", "speech", "video"),
    _check("size_not_negative", "size_bytes >= 0"),
    Index("ix_artifacts_storage_key", "storage_key"),
)

files: Final = _table(
    "files",  # What `/v1/files` holds: any bytes, not deduplicated, for a day.
    _text("id", key=True),
    _text("account_id", ForeignKey("accounts.id")),
    _text("name"),
    _text("content_type"),
    _number("size_bytes"),
    _text("sha256"),
    _text("md5"),
    _text("storage_key"),
    _json("metadata", default="{}"),
    _number("created_at"),
    _number("expires_at"),
    _check("size_not_negative", "size_bytes >= 0"),
    Index("ix_files_listed", "account_id", "created_at", "id"),
    Index("ix_files_expires_at", "expires_at"),
)

# The edges.

idempotency_keys: Final = _table(
    "idempotency_keys",
    _text("account_id", ForeignKey("accounts.id"), key=True),
    _text("key", key=True),
    _text("fingerprint"),  # Of the method, the path and the body.
    _text("generation_id", ForeignKey("generations.id"), optional=True),
    _number("status", optional=True),  # NULL while the answer is being made.
    _text("body", optional=True),
    _number("created_at"),
    Index("ix_idempotency_keys_created_at", "created_at"),
)

callbacks_seen: Final = _table(
    "callbacks_seen",
    _text("id", key=True),
    _number("received_at"),
    Index("ix_callbacks_seen_received_at", "received_at"),
)

webhooks: Final = _table(
    "webhooks",  # The outbox: written with the change that it tells of.
    _text("id", key=True),
    _text("generation_id", ForeignKey("generations.id")),
    _text("url"),
    _text("event"),
    _text("body"),
    _text("state"),
    _number("attempts", default=0),
    _number("due_at", optional=True),
    _number("lease_until", default=0),
    _text("claim_token", optional=True),
    _text("last_error", optional=True),
    _number("created_at"),
    _number("delivered_at", optional=True),
    _one_of("state", "pending", "delivered", "failed"),
    _one_of("event", "start", "output", "logs", "completed"),
    _check("due_iff_pending", "(state = 'pending') = (due_at IS NOT NULL)"),
    Index("ix_webhooks_due", "due_at", **_where("due_at IS NOT NULL")),
    Index("ix_webhooks_generation_id", "generation_id"),
)

secrets: Final = _table(
    "secrets",  # Keys that this installation made for itself: links, webhooks.
    _text("name", key=True),
    _text("value"),
    _number("created_at"),
)
