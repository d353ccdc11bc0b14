"""How an agent is confined: the command line that does it, the limits that hold, and the end of everything inside."""
