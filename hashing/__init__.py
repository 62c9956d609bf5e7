"""Learned hashing of music: one track, one code, one table, one model.

The library knows nothing of Beam and nothing of catalogues; `pipelines` applies it to a catalogue.
"""
