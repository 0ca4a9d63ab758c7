"""The whole service on a simulated clock, with faults drawn from a seed, and a judge of the money.

    loop.py        an event loop whose time passes only when everybody waits
    database.py    SQLite and the real writer's transactions, in the loop's own thread
    network.py     the way to the provider: late, lost, cut, hanging
    process.py     one process of the service, which may die at any step
    world.py       customers, the provider, the clock's jumps, crashes; `live(seed)`
    judge.py       what must be true in the end, whatever happened
    bugs.py        bugs that the judge has to catch

What runs is the product: orders, reconciler, lanes, recorder, sweep, ledger, the callbacks' door
and the Replicate provider, over `tests/upstream`. One seed again, with what happened:

    python -m tests.simulation 17
"""
