"""The wire schema: our .proto files for etcd's public and internal messages, and the modules generated from them.

Reading order: kv.proto (what is stored), rpc.proto (the public API), raft_internal.proto (what a log entry holds),
raft.proto, wal.proto and snap.proto (what is on disk), membership.proto, lease.proto, v3lock.proto, v3election.proto.
`tools/gen_proto.py` regenerates the *_pb2 modules; `make lint` fails when they are stale.
"""
