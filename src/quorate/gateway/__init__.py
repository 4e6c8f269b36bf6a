"""The JSON gateway: HTTP requests below /v3/ to the same methods that gRPC calls reach."""
