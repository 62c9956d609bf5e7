"""Catalogue-level jobs on Apache Beam, and the command line."""
