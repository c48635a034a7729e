"""Errors that a signal handler of the caller raises, such as the end of a time limit. They are no fault of a file."""

__all__ = ["pass_alarm"]


def pass_alarm(error: BaseException) -> None:
    """Raise a `TimeoutError` again that no system call raised. Call it first wherever an `OSError` is caught.

    System calls set `errno`. A handler writes `raise TimeoutError`, which is an `OSError` by its type only.
    """
    if isinstance(error, TimeoutError) and error.errno is None:
        raise error
