"""Errors that the user can fix."""


class UserError(Exception):
    """The command prints the message as one line on standard error and exits with 2."""
