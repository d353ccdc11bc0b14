"""The run gateway: the one door between a supervisor and the rest. Checks token and fence at every request.

Keeps events on disk before it acknowledges them, takes blobs and results, prolongs leases. Any replica that shares the
database and the data folder could answer: what is kept in memory is a cache.
"""
