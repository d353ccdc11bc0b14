"""The supervisor beside one agent CLI. Speaks HTTP to the run gateway; knows no broker, no database and no service."""
