"""The node: what one member does with a request, between the services above and the rooms that keep state below.

Reading order: config (the settings), core (Server, all that services call), turn (proposals -> raft -> WAL -> sync ->
apply), entry (the bytes of a log entry), apply and txn and ranges (an entry's effect on the state, and the response's
bytes), reads (linearizable reads), leasing (what the leader does about leases), membership (conf changes and
attributes), snapshots, then quota, alarm, compactor.
"""
