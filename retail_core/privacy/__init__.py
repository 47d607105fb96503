"""Export and erasure of the stored data of one user."""
