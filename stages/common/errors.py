"""Faults that lie in files, parameters or the machine, not in the program."""

LISTED = 20


class InputError(Exception):
    """Something handed to a stage is not as it must be.

    The message is all that a person gets to see, so it names the file or the key, what was
    found, what was expected and what to do. `stages.common.stage.run` prints it without a
    traceback and ends the stage with exit status 1.
    """


def shown(name: object) -> str:
    r"""A file's name for a message, on one line whatever is in it.

    Line feeds, control characters (which could steer a terminal) and bytes that are not UTF-8
    are written as escapes, such as `\n`.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(name)
    )


def listed(lines: list[str]) -> str:
    """The lines, indented; after the first 20 of them only how many more there are."""
    first = lines[:LISTED]
    if len(lines) > LISTED:
        first.append(f"and {len(lines) - LISTED} more")
    return "\n".join(f"  {line}" for line in first)


def named(names: list[str]) -> str:
    """The names in quotes, at most ten of them."""
    return ", ".join(repr(name) for name in names[:10]) + (", ..." if len(names) > 10 else "")
