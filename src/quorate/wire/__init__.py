"""Bytes to events, without sockets: HTTP/2 made for gRPC, HTTP/1.1, and helpers for spliced protobuf.

Reading order: `rpc` and `web` (the seams to services and to HTTP handlers), `frames` (constants, limits, builders),
`headers` (HPACK), `stream` and `http2` (the connection both roles share), `grpc` (framing, status, timeouts),
`request` (what a header list asks for), `server` and `client` (the two roles), `http1`, `protobuf`.
"""
