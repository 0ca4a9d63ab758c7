"""Tells customers of their generations: webhooks, written in the transaction of the change.

`teller` gives what the reconciler calls with the ids of changed generations (`steps.Tell`). It
reads those that have a webhook, decides which event the change is, and puts the prediction as it is
now into the outbox. Nothing is sent here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from sayso.artifacts.links import FileLinks
from sayso.catalogue.catalogue import Catalogue
from sayso.clock import Instant
from sayso.db.tx import Tx
from sayso.generations import store
from sayso.generations.as_prediction import prediction_of
from sayso.generations.generation import Generation
from sayso.generations.steps import Tell
from sayso.ids import GenerationId
from sayso.webhooks import store as outbox
from sayso.webhooks.rules import DEFAULT_EVENTS, Told, event_of
from sayso.webhooks.store import Outgoing

_LINK_S: Final = 86_400
"""How long the link in a webhook works: longer than it is tried."""


def teller(*, catalogue: Catalogue, links: FileLinks) -> Tell:
    """Return what writes the webhooks of changed generations."""

    def tell(tx: Tx, ids: Sequence[GenerationId], now: Instant) -> None:
        watched = store.with_webhook(tx, ids)
        if not watched:
            return
        so_far = outbox.told(tx, [generation.id for generation in watched])
        outgoing = [
            one
            for generation in watched
            if (one := _outgoing_of(generation, so_far, catalogue, links, now)) is not None
        ]
        outbox.put(tx, outgoing, now=now)

    return tell


def _outgoing_of(
    generation: Generation,
    so_far: Mapping[str, Told],
    catalogue: Catalogue,
    links: FileLinks,
    now: Instant,
) -> Outgoing | None:
    event = event_of(
        generation.webhook_events or DEFAULT_EVENTS,
        status=generation.status,
        logs=generation.logs or "",
        told=so_far.get(generation.id, Told()),
        now=now,
    )
    if event is None or generation.webhook_url is None:
        return None
    body = prediction_of(
        generation,
        version=catalogue.version_of(generation.model),
        links=links,
        now=now,
        base=generation.base_url or "",
        link_s=_LINK_S,
    )
    return Outgoing(
        # The same change is the same delivery, however often this is run.
        id=f"msg_{generation.id}_{generation.version}",
        generation_id=generation.id,
        url=generation.webhook_url,
        event=event,
        body=json.dumps(body, separators=(",", ":")),
        changed_at=generation.changed_at,
    )
