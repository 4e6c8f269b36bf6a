"""TLS: what the flags say, files, contexts, checks of certificates, and the pipe between a socket and its link."""
