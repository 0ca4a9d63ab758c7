"""How patient the service is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How patient the service is; the defaults are the product's."""

    poll_s: float = 5
    """Shortest time between two looks at a prediction."""
    looks_per_s: float = 250
    """Looks a second of one process, whatever the provider allows: a few per cent of a core."""
    deadline_s: float = 600
    """Time that a generation may take, unless its model says otherwise."""
    queue_max_s: float = 86_400
    """Time that a generation may wait for a provider whose clock starts with the work."""
    cancel_grace_s: float = 30
    """Time that a provider has to end what it was asked to cancel."""
    stop_poll_s: float = 2
    """Time between two looks at a prediction that is to end."""
    new_attempts: int = 2
    """New attempts after a transient failure."""
    retry_s: float = 5
    """Wait before the first new attempt; four times as long before each further one."""
    refused_max_s: float = 300
    """Longest wait when a provider refuses for now."""
    settle_s: float = 60
    """Time after which a create whose answer was lost is searched for, and searched again."""
    search_max_s: float = 900
    """Time after a create call without an answer in which a late twin of it is searched for."""
    search_min_s: float = 120
    """Shortest such search, by a clock that does not jump: a list shows everything sooner."""
    lost_creates: int = 3
    """Creates of one generation that may vanish before it fails."""
    keep_retry_s: float = 2
    """Shortest wait before a finished video is fetched or stored again."""
    keep_max_s: float = 7_200
    """Time after a provider's success in which its video must be stored: providers forget."""
