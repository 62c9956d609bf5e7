"""MIDI files and the recordings that they are of, found in a user's own files."""
