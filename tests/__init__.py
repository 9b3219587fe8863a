"""The tests of otdist."""
