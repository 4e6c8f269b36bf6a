"""The bbolt file format, read and written: the file `member/snap/db`.

Reading order: `page` (the formats), `tree` (reading a bucket), `freelist`, `edit` (from changes to new pages), `tx`
(transactions and the two halves of a commit), `reach` (which pages are in use), `db` (opening, the order of commits),
`check` (every inconsistency), `compact` (a copy without gaps).
"""

from quorate.storage.bolt.compact import Compactor
from quorate.storage.bolt.db import Db
from quorate.storage.bolt.tree import Scan, Tree
from quorate.storage.bolt.tx import Bucket, Commit, ReadTx, WriteTx

__all__ = ["Bucket", "Commit", "Compactor", "Db", "ReadTx", "Scan", "Tree", "WriteTx"]
