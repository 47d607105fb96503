"""Storage: MongoDB, the embedded server and the lake."""
