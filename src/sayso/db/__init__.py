"""The database: its tables, its migrations, and the one way to write to it."""
