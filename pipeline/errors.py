"""The one exception that means "the person at the terminal can fix this"."""


class InputError(Exception):
    """Bad input. The message is one line: what is wrong, where (file, key or row), what to do.

    `pipeline.run.stage_main` prints it to stderr without a traceback and exits with status 2.
    """
