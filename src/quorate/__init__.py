"""etcd in Python: the same API, data directory, peer protocol and commands. Start with docs/architecture.md."""
