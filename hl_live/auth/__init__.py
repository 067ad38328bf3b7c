"""Who a client is and what it may read. `access.py` is the door; the rest is what it asks."""
