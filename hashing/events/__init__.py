"""Labelled clips of sound: embeddings, short codes, labels, and search among them."""
