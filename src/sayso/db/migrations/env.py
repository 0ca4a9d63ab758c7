"""What Alembic runs: the migrations, on the connection that `db/upgrade.py` hands over.

The connection is inside the one transaction that the whole upgrade is; nothing is committed here.
"""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
