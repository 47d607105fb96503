"""Shapley contributions and the reasons in plain language made of them."""
