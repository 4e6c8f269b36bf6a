"""The `etcdctl` command, level 3.6 with the forms of 3.5 and 3.4 that still have a meaning.

Reading order: `main` (from words to a command), `commands` (the one table of commands and flags), `pflag` (their
syntax), `usage` (help), `context` (what a command gets: flags, arguments, the cluster), `session` (calls), the printers
`output`, `simple`, `fields`, `gojson`, `table`, then a module a family of commands. Everything is imported late: a
`get` must be over before a person notices that it began.
"""
