"""The errors that a user can mend; commands print them as one line and exit with 2."""


class UserError(Exception):
    """Something asked for cannot be done as asked; the message names the thing and says what to do."""
