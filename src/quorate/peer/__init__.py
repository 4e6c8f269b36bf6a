"""The network between members: etcd's rafthttp, over HTTP/1.1.

Reading order: `codec` (bytes of the streams), `exchange` (one HTTP request in the client's role), `versions` (who may
talk to whom), `stream` (the endless ones), `pipeline` (single messages), `owner` (what these tell their peer),
`snapsend` and `snapreceive` (the database), `peer` (all of them for one member), `forward` (questions to the leader),
`network` (all members: the server's Transport), `handler` and `web` (what the peer port answers).

Sans-IO: `exchange.Dialer` is the seam to sockets on the client's side, `wire.web` on the server's.
"""
