"""What every service shares: the lifecycle, the facts, the tables, the broker and the database. Knows no service."""
