"""The commands. Reading order: `etcd` (the command), `flags` (the one table of settings), `goflag` (Go's flag syntax),
`environment` and `configfile` (the two other sources), `settings` (checks, and the way to a member's configuration).
"""
