"""What an index costs before it is made: hours, bytes, workers and money by stage."""
