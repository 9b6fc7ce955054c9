"""The one exception that is addressed to the person at the keyboard."""


class UserError(ValueError):
    """Something the user can put right: a bad file, option or annotation.

    The message says what was wrong, where (file, key, index), and what to do, in one line. Entry
    points print it without a traceback and exit with status 2.

    Example:
        >>> try:
        ...     load_pose_model("missing.pth")
        ... except UserError as error:
        ...     print(error)
        missing.pth: no such file or folder (nor a hub id of the form owner/name)
    """


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or its type's name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
