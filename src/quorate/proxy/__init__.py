"""Between clients and a cluster: the TCP proxy of `etcd gateway`, the gRPC proxy of `etcd grpc-proxy`."""
