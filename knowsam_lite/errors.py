"""The exception for errors that the user can fix."""


class UserError(Exception):
    """A mistake in the input: one line that says what was found, what was expected and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """
