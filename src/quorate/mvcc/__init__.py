"""The multi-version key space.

Reading order: `revision` and `record` (the two encodings), `key_index` over `sorted_keys` (which revisions a key
has), `store` (transactions and reads) with `value_cache`, `select` (what a range request asks beyond the store),
`compaction`, `hash`, then watching: `watcher` (the parts), `watch_group` (who wants a key), `watch` (the hub).
`needs` says what this room wants from leases and backend.
"""
