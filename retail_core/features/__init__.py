"""Features, labels and cut-offs: one list of definitions, read by a batch and an online interpreter."""
