"""`benchmark`: load for any etcd and the report of etcd's own tool of this name (etcd: tools/benchmark).

Reading order: `commands` (the table of sub-commands and flags), `main`, `report`, `pool` (connections), `load` (closed
loops, rates), `unary` (put, range, txn-put, txn-mixed, lease-keepalive), `watch`, `stm`.

Left out: `mvcc`, which runs etcd's storage inside the tool and speaks to no server, and range's `--stream`, 3.7's call.
"""
