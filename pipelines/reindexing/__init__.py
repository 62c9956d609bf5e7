"""The next version of an index, made from the published one and what has changed since."""
