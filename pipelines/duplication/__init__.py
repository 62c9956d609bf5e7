"""The index joined with itself: which tracks are one recording."""
