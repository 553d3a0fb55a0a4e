"""The errors that a user can cause; the tools print them without a traceback."""


class UserError(Exception):
    """What is wrong, the value, what was expected and the fix, in words.

    Raised for everything that the user can put right: a path, a flag, a config value, a data
    file. The tools print the text and exit with status 2; from Python it is an exception like
    any other.
    """
