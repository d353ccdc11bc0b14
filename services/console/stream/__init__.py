"""Streams of events to viewers: resumable, without loss or duplicate; a lost history is said, never hidden."""
