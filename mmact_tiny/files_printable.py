"""Text of strangers on a terminal: the names of files and classes may hold anything."""


def printable(text: str) -> str:
    """Returns the text in one line whose characters do nothing to a terminal but show."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """Does the same and leaves the ends of lines as they are, and tabs."""
    return "".join(c if c in "\n\t" or c.isprintable() else repr(c)[1:-1] for c in text)
