"""Truth and predictions of any tool, from files."""
