"""The audit: what must be true of the ledger, asked of the tables.

    I1   all entries sum to zero
    I2   each transfer has exactly its two entries, which cancel
    I3   an account's balance is the sum of its entries, and each entry says the sum so far
    I4   what is held is the sum of the open holds
    I5   what is available is not negative
    I6   what a hold captured is its one capture transfer, from its own account
    I7   a generation and its hold agree: live and held, succeeded and captured, else released
    I8   a generation with a price has a hold of that price and owner; a free one has none
    I9   an account's entries are numbered without gaps
    I10  no hold is open long after its generation's deadline
    I11  at most one attempt of a generation cost us something that is not booked as a loss

Each is one query for what breaks it, so an empty ledger has nothing to say. I7 and I8 concern
prices above zero. Run it on a snapshot (`db.snapshot`): it reads the tables one after the other.

The list follows the prototype that was measured for this project; I10 leaves out a generation in
`storing`, where the deadline does not apply.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import CursorResult, text

from sayso.clock import Instant, after
from sayso.db.tx import Tx

GRACE_S: Final = 15 * 60
"""How long after a deadline a hold may still be open: cancelling upstream takes a while."""
MOST: Final = 100
"""Violations reported of each kind."""


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong: which invariant, about which row, and how."""

    invariant: str
    subject: str
    text: str


def verify(tx: Tx, *, now: Instant, grace_s: float = GRACE_S) -> list[Violation]:
    """Return everything that is wrong with the ledger; an empty list when nothing is."""
    return list(_violations(tx, after(now, -grace_s)))


def _violations(tx: Tx, overdue: Instant) -> Iterator[Violation]:
    for invariant, sentence, query in QUERIES:
        parameters = {"overdue": overdue} if ":overdue" in query else {}
        found: CursorResult[Any] = tx.execute(text(f"{query} LIMIT {MOST}"), parameters)
        for row in found.all():
            yield Violation(invariant, str(row[0]), sentence.format(*row))


QUERIES: Final = (
    (
        "I1",
        "all entries sum to {1}, not to 0",
        """
        SELECT 'ledger', total FROM (SELECT SUM(amount) AS total FROM entries) AS sums
         WHERE total <> 0
        """,
    ),
    (
        "I2",
        "transfer {0} of {1} does not have exactly its two entries",
        """
        SELECT t.id, t.amount FROM transfers t LEFT JOIN entries e ON e.transfer_id = t.id
         GROUP BY t.id, t.amount, t.debit_account, t.credit_account
        HAVING COUNT(e.account_id) <> 2
            OR SUM(CASE WHEN e.account_id = t.debit_account AND e.amount = -t.amount
                          OR e.account_id = t.credit_account AND e.amount = t.amount
                        THEN 1 ELSE 0 END) <> 2
        """,
    ),
    (
        "I3",
        "account {0} has a balance of {1}; its entries sum to {2}",
        """
        SELECT a.id, a.balance, COALESCE(s.total, 0) FROM accounts a
          LEFT JOIN (SELECT account_id, SUM(amount) AS total FROM entries GROUP BY account_id) s
            ON s.account_id = a.id
         WHERE a.kind = 'customer' AND a.balance <> COALESCE(s.total, 0)
            OR a.kind = 'system' AND (a.balance <> 0 OR a.held <> 0)
        """,
    ),
    (
        "I3",
        "entry {1} of account {0} says a balance of {2}; the entries so far sum to {3}",
        """
        SELECT account_id, version, balance_after, so_far FROM (
            SELECT account_id, version, balance_after,
                   SUM(amount) OVER (PARTITION BY account_id ORDER BY version) AS so_far
              FROM entries WHERE version IS NOT NULL) AS lines
         WHERE balance_after <> so_far
        """,
    ),
    (
        "I4",
        "account {0} has {1} held; its open holds sum to {2}",
        """
        SELECT a.id, a.held, COALESCE(s.total, 0) FROM accounts a
          LEFT JOIN (SELECT account_id, SUM(amount) AS total FROM holds
                      WHERE state = 'held' GROUP BY account_id) s
            ON s.account_id = a.id
         WHERE a.held <> COALESCE(s.total, 0)
        """,
    ),
    (
        "I5",
        "account {0} has {1} and holds {2} of it",
        """
        SELECT id, balance, held FROM accounts
         WHERE kind = 'customer' AND (balance - held < 0 OR held < 0)
        """,
    ),
    (
        "I6",
        "hold {0} captured {1}; its captures: {2}, in all {3}",
        """
        SELECT h.id, h.captured, COUNT(t.id), COALESCE(SUM(t.amount), 0)
          FROM holds h LEFT JOIN transfers t ON t.hold_id = h.id
         GROUP BY h.id, h.captured, h.account_id
        HAVING COUNT(t.id) <> (CASE WHEN h.captured > 0 THEN 1 ELSE 0 END)
            OR COALESCE(SUM(t.amount), 0) <> h.captured
            OR SUM(CASE WHEN t.debit_account <> h.account_id THEN 1 ELSE 0 END) > 0
        """,
    ),
    (
        "I7",
        "generation {0} is {1} and its hold is {2}",
        """
        SELECT g.id, g.state, h.state FROM generations g JOIN holds h ON h.generation_id = g.id
         WHERE g.price_micros > 0
           AND h.state <> CASE WHEN g.state = 'succeeded' THEN 'captured'
                               WHEN g.state IN ('failed', 'canceled') THEN 'released'
                               ELSE 'held' END
        """,
    ),
    (
        "I8",
        "generation {0} of {1} costs {2}; held for it: {3} of {4}",
        """
        SELECT g.id, g.account_id, g.price_micros, COALESCE(h.amount, 0),
               COALESCE(h.account_id, 'nobody')
          FROM generations g LEFT JOIN holds h ON h.generation_id = g.id
         WHERE g.price_micros <> COALESCE(h.amount, 0)
            OR h.account_id IS NOT NULL AND h.account_id <> g.account_id
        """,
    ),
    (
        "I8",
        "hold {0} is for generation {1}, which is not there",
        """
        SELECT h.id, h.generation_id
          FROM holds h LEFT JOIN generations g ON g.id = h.generation_id WHERE g.id IS NULL
        """,
    ),
    (
        "I9",
        "account {0} is at version {1}; it has {2} entries, the last numbered {3}",
        """
        SELECT a.id, a.version, COALESCE(s.lines, 0), s.last FROM accounts a
          LEFT JOIN (SELECT account_id, COUNT(*) AS lines, MAX(version) AS last FROM entries
                      GROUP BY account_id) s
            ON s.account_id = a.id
         WHERE a.kind = 'customer' AND (a.version <> COALESCE(s.lines, 0)
                                     OR a.version <> COALESCE(s.last, 0))
            OR a.kind = 'system' AND (a.version <> 0 OR s.last IS NOT NULL)
        """,
    ),
    (
        "I10",
        "hold {0} is open, and the deadline of generation {1} is long over",
        """
        SELECT h.id, g.id FROM holds h JOIN generations g ON g.id = h.generation_id
         WHERE h.state = 'held' AND g.state <> 'storing' AND g.deadline_at < :overdue
        """,
    ),
    (
        "I11",
        "generation {0} has {1} attempts that cost something and are not booked as a loss",
        """
        SELECT generation_id, COUNT(*) FROM predictions
         WHERE cost_micros > 0 AND loss_transfer_id IS NULL
         GROUP BY generation_id HAVING COUNT(*) > 1
        """,
    ),
    (
        "I11",
        "attempt {1} of generation {0} cost {2}; booked as its loss: {3} ({4})",
        """
        SELECT p.generation_id, p.attempt, p.cost_micros, t.amount, t.kind
          FROM predictions p JOIN transfers t ON t.id = p.loss_transfer_id
         WHERE t.amount <> p.cost_micros OR t.kind <> 'loss'
        """,
    ),
    (
        "I11",
        "transfer {0} books a loss of {1} that belongs to no attempt",
        """
        SELECT t.id, t.amount
          FROM transfers t LEFT JOIN predictions p ON p.loss_transfer_id = t.id
         WHERE t.kind = 'loss' AND p.nonce IS NULL
        """,
    ),
)
"""Invariant, sentence about a row that breaks it, query for such rows (both databases)."""
