"""The real machine: the event loop, sockets, threads, files and the clock, and the member put together from all rooms.

Reading order: `loop` (the turn on uvloop, the storage thread, fatal errors), `disk` (files), `listen` (sockets,
HTTP/1.1 told from HTTP/2), `log` (zap's lines), `urls` and `settings` (what a member is told), `member` (all of it
together).
"""
