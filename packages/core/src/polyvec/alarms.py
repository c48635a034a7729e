"""Errors that a signal handler of the caller raises, such as the end of a time limit. They are no fault of a file."""

__all__ = ["pass_alarm"]


def pass_alarm(error: BaseException) -> None:
    """Raise an error again that a signal handler of the caller raised. Call it first wherever an `OSError` is caught.

    System calls set `errno`; a handler writes `raise TimeoutError`, which is an `OSError` by its type only. Decoders
    raise Python's own `AssertionError` and `RuntimeError`; time limits derive from them (timeout-decorator's does).
    """
    of_no_call = isinstance(error, TimeoutError) and error.errno is None
    derived = isinstance(error, AssertionError | RuntimeError) and type(error).__module__ != "builtins"
    if of_no_call or derived:
        raise error
