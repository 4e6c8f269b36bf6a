"""Who belongs to the cluster, and which versions it has agreed on.

Reading order: member.py (a member, its id, URLs and JSON), version.py (versions and the decision about the cluster's),
v2store.py (the membership inside a .snap file), cluster.py (the members as the log changes them).
"""
