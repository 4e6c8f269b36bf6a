"""Work on the files of a member that does not run: what `etcdutl`, and `etcdctl snapshot status|restore`, do.

`status` (facts of a snapshot file), `restore` (a data directory from it), `records` (the `key` bucket, checked revision
by revision), `offline` (a database opened for one change, or for reading; the directory's paths). Plain calls over the
`Disk` port that block until they are done; progress goes to a `Log`. Every refusal that has an etcd text is a
`BackupError` with that text; damage is a CorruptError that names file and offset.
"""
