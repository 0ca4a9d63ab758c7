"""Credits: the ledger that holds, captures and releases."""
