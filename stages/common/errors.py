"""The one exception for faults that lie in files, parameters or the machine, not in the program."""


class InputError(Exception):
    """Something handed to a stage is not as it must be.

    The message is all that a person gets to see, so it names the file or the key, what was
    found, what was expected and what to do. `stages.common.stage.run` prints it without a
    traceback and ends the stage with exit status 1.
    """
