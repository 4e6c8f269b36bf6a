"""`ETCDCTL_API=2`: the forms of operators' notes from before etcd 3.4, spoken to a v3 server.

`cluster-health` and `member` print what the old tool prints, and get it by v3's calls and /health. The v2 store is not
served: commands on it fail and name v3's command. Reading order: `app` (words, flags, help), `cluster` (endpoints, TLS,
the calls), `members` (the commands). Source: etcd's etcdctl/ctlv2 (3.5).
"""
