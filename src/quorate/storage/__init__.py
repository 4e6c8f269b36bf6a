"""What is on disk.

Reading order: `wal_record` (the format of the write-ahead log), `wal_reader` (reading it, and what a crash does to it),
`wal` (writing it); `snapfile` (the snapshot directory), `purge`; `schema` (buckets and keys), `bolt` (the database's
file format, a room of its own), `backend` (what the server writes to), `view` and `defrag`.

All of it reaches the disk through `quorate.ports.Disk`, and blocks while it does.
"""
