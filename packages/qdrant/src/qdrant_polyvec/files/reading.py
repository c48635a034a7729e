"""How files are read, as the options of the commands say it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from polyvec.pdf import PasswordError
from polyvec.pictures import DPI

_PASSWORD_VARIABLE = "POLYVEC_PDF_PASSWORD"  # noqa: S105 — the name of an environment variable


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How files are read.

    Attributes:
        dpi: resolution of the pages of PDFs.
        password: of encrypted PDFs. No message, and no `repr`, shows it.
        encoding: of texts that are not UTF-8 and have no mark, and of pages of HTML that declare none; if None, it is
            guessed.
    """

    dpi: float = DPI
    password: str | None = field(default=None, repr=False)
    encoding: str | None = None

    @contextmanager
    def naming_options(self, name: str = "it") -> Iterator[None]:
        """Say in the words of the command line what is wrong with the password of a PDF that the block opens.

        `name` is that of the PDF.

        Raises:
            ValueError: instead of `polyvec.pdf.PasswordError`.
        """
        try:
            yield
        except PasswordError as error:
            options = f"{_PASSWORD_VARIABLE} or --password"
            if self.password is None:
                raise ValueError(f"{name} is encrypted: give its password by {options}") from error
            raise ValueError(f"{name} is encrypted, and the password of {options} does not open it") from error
