"""The definitions, written to be believed by eye: the oracle of every test."""
