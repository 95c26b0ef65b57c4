"""Room: keep it. Journals and segments are the truth, the SQLite ledger an index over them."""
