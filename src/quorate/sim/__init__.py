"""The same nodes in a virtual world: N unchanged members in one process, under a virtual clock, network and disk.

One seed decides everything: the configuration, which faults happen and how often, what the clients do. A run with the
same seed is the same run, event for event; its trace hash says so.

    python -m quorate.sim --seed 7            one history, and a summary; when it fails: what broke, and the last events
    python -m quorate.sim --seeds 1..1000     many
    python -m quorate.sim --minutes 10        as many as fit

A run has three phases: faults; then a random quorum is healed and must make progress without the others (liveness);
then all are healed, come to rest, and everything that was seen is checked (safety).

Reading order: clock (time, and one loop a process), disk, network, calls (an RPC between a client and a node), plan
(what the seed decides), node (a process that starts, crashes, pauses), transfer (snapshots between members), faults,
history, clients, watchers, admin, model (etcd's rules in their slowest form), observer (raft's promises, at each step),
then the checkers of a finished history: check_kv, check_watch, check_lease, check_end, and world (the run itself).
"""
