"""The one exception that is addressed to the person at the keyboard."""


class UserError(Exception):
    """Something the user can put right: a bad file, option or annotation.

    The message says what was wrong, where (file, key, index), and what to do, in one line. Entry
    points print it without a traceback and exit with status 2.
    """
