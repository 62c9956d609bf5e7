"""Artist disambiguation: the steps of ``hashbeam disambiguate``, one a file."""
