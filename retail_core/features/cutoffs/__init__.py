"""Cut-off policies: which (user, as_of) pairs make rows, and their labels."""
