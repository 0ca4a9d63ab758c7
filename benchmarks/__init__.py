"""One module for each figure that the docs quote.

Each has a `main()` that prints a Markdown table, with a ratio to something measured in the same
run: machines differ and are shared, a ratio survives that.
"""
