"""Where branches and pull requests are written."""
