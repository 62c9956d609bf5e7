"""MIDI files and the recordings of an index: which belongs to which, and how they lie."""
