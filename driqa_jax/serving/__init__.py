"""Scores over HTTP: one process, one scorer, a bounded queue, one page. Needs the extra `serve`."""
