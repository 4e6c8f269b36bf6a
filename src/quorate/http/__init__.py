"""What a member answers over HTTP/1.1 beside gRPC: health, version, metrics, and a peer's first questions.

Reading order: `mux` (requests, responses, paths, the checks before them), `health` (/health, /livez, /readyz),
`version` (/version, and /members for peers), `metrics` (the text format and the table of families), `collect`
(where each number comes from). Sans-IO: a handler gets a request and a `reply` to call once, now or later.
"""
