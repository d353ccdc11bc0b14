"""What the console reads: rows of every service become the answers of the API. Never writes."""
