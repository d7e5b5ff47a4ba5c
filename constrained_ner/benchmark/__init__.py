"""The benchmark: formats and levels on the same documents and models, and the report of it."""
