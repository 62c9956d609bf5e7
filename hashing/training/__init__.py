"""How the shipped models are made: the only place that needs torch (``hashbeam[train]``)."""
