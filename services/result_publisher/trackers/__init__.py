"""Where work items are told."""
