"""The schema's history, applied by `db/upgrade.py` through Alembic."""
