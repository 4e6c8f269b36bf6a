"""The side-by-side benchmark: real etcd and ours on the same machine, in turn, printed as ratios (`make bench`)."""
