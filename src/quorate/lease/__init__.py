"""Leases: keys that live as long as somebody renews them. Read lessor."""
