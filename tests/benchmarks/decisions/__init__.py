"""Hand-written pieces beside the libraries that could replace them; `docs/decisions` has the results."""
