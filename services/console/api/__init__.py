"""The routes below /v1: each takes a request apart, asks a read or a pure function, and answers. No SQL here."""
