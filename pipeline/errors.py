"""What a person can mend: raised with one clear line, shown as that line with exit status 2."""


class InputError(Exception):
    """Bad input. The message names what is wrong, where (file, key) and the remedy.

    It is always one line: line breaks that came in with a key, a value or a library's text become blanks.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).splitlines()))
