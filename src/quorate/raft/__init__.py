"""The consensus state machine, sans-IO and deterministic: messages and ticks go in, a `Ready` comes out.

Reading order: `node` shows how it is used (`RawNode`, `Ready`). Then from the ground up: `types` (entries, messages,
configurations), `codec` (their bytes), `describe` (their text), `logger`; `storage` (the stable log, in memory) and
`log` (with the tail that is not durable yet); `quorum` (votes and commit arithmetic), `tracker` (what a leader knows of
each peer), `confchange` (from one configuration to the next), `read_only`. On these stands `core` (one member's state),
and on that what messages do to it: `election`, `follower`, `candidate`, `replication`, `leader`, and `step`, which
dispatches.
"""
