"""What has changed in a catalogue since a version of an index was made from it."""
