"""Plain servers of the same model, to stand beside ours."""
