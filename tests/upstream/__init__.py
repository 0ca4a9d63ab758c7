"""A faithful Replicate for tests: its API, its output host, its webhooks, and its bad days.

    Upstream        the service: `Upstream(clock, random=Random(7))`         (service.py)
    Switches        what it is like in general, each by a name               (switches.py)
    Run, RUNS       what one prediction does, and the ways in which one ends (runs.py)
    Fault           what becomes of one call                                 (faults.py)
    UpstreamTransport   the way to it in this process: nothing is opened     (transport.py)
    served          the same over real HTTP on this machine                  (serving.py)

    upstream = Upstream(clock)
    upstream.switch(credit="low")                      # from now on
    upstream.will(RUNS["sensitive"])                   # the next prediction
    upstream.fail("create", Fault.RESET_AFTER)         # the next create call
    upstream.chance("read", Fault.SLOW, 0.1)           # a tenth of the looks, by the seed
    async with httpx.AsyncClient(transport=UpstreamTransport(upstream)) as client: ...
    await upstream.run_due(outside)                    # inputs fetched, webhooks sent, by the clock

Times are the clock's: with a `SettableClock` nothing sleeps, and `next_due()` says how far to move
it. What it says comes from `shapes.py`, which `tests/unit/test_upstream_shapes.py` holds to bodies
that were recorded of the real service; nothing here is taken from our own `/v1`.
"""

from tests.upstream.faults import CallKind, Fault
from tests.upstream.runs import FAILURES, RUNS, Run
from tests.upstream.service import Upstream
from tests.upstream.switches import Switches
from tests.upstream.transport import UpstreamTransport

__all__ = [
    "FAILURES",
    "RUNS",
    "CallKind",
    "Fault",
    "Run",
    "Switches",
    "Upstream",
    "UpstreamTransport",
]
