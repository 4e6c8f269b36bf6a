"""The `etcdutl` command: 3.6's commands with 3.5's forms kept, and `verify`, which is ours.

Reading order: `commands` (the one table), `main` (from words to a command, as cobra does it), `usage` (help),
`printer` (output formats), `console` (log lines), then `snapshot`, `directory` (the rest), `verify`. The
work itself is in `quorate.backup`; flags and the rules of words are shared with `etcdctl`.
"""
