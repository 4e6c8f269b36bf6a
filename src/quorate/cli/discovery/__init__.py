"""Discovery services: where the members of a new cluster find each other.

`v3` is a running etcd cluster, asked by our client library; `v2` one that serves the v2 API, or discovery.etcd.io.
"""
