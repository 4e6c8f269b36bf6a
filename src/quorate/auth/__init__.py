"""Users, roles and permissions: who may do what with which keys, and how a caller proves who they are.

Reading order: ranges (what a set of granted ranges covers), store (users and roles as the log changes them and the
backend keeps them; the checks), password (bcrypt, never on the loop), tokens (simple ones, in memory), jwt (signed
ones), options (`--auth-token`), access (from a call's metadata to a user).

What a request needs is not here: server.permissions and the API room ask.
"""
