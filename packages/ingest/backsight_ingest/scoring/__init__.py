"""Scores of texts: how likely each is to be positive, negative or neutral, by a scorer that is pinned."""
