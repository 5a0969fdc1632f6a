"""What the repository measures, and the experiments that it compares networks by."""
