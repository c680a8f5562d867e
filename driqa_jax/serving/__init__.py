"""Scoring over HTTP: one process, one scorer, a bounded queue, one web page. Needs the extra `serve`."""
