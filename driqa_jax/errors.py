"""Errors that the user can mend."""


class UserError(Exception):
    """Said in one line on standard error; the command exits with 2."""
