"""The sub-commands of `etcd`: `gateway` and `grpc-proxy`."""
