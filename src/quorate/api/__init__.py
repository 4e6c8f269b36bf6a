"""The gRPC services: one small module each. They decode and check a request, call the server, and encode the answer.

Reading order: check.py (what all calls pass, and how methods get into the router), strict.py (etcd's view of the bytes
of a request), forms.py and kv.py, watch.py, lease.py, cluster.py, maintenance.py and snapshot.py, auth.py, health.py;
then steps.py, on which lock.py and election.py are built; services.py puts all of them together.
"""
