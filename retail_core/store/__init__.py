"""What is kept: MongoDB, the lake, predictions, the ledger and the quarantine."""
