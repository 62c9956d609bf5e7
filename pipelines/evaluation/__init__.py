"""How good the hashers are: the jobs behind ``hashbeam evaluate``."""
