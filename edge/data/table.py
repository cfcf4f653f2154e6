"""CSV: read as spreadsheets save it, written so that any reader takes it.

Excel saves with a byte order mark, lines ending in CRLF, and where a number is written 1,5 with semicolons; as "Unicode
text" in UTF-16 with tabs. Some programs put the separator into a line of its own first, `sep=;`.
"""

import codecs
import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SEPARATORS = (";", "\t", ",")  # what the first line has of these, the first of them
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
NAMED_SEPARATOR = "sep="


@dataclass(frozen=True)
class Table:
    """The lines of a file that are not empty."""

    separator: str
    rows: tuple[tuple[int, list[str]], ...]  # number of the line in the file, its fields without spaces around them

    def number(self, field: str) -> float:
        """A field's number; with a comma for the point where commas do not separate.

        Raises:
            ValueError: it is none.
        """
        point = field.replace(",", ".") if self.separator != "," and field.count(",") == 1 else field
        return float(point)


def parse_table(content: bytes) -> Table:
    """The table of a file's bytes; bytes that are not UTF-8 become what they are in file names (surrogates).

    Raises:
        ValueError: not a table.
    """
    text = _decode(content)
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    named = first.lower().startswith(NAMED_SEPARATOR)
    separator = first[len(NAMED_SEPARATOR) :][:1] if named else next((s for s in SEPARATORS if s in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator or ",", skipinitialspace=True)
    try:
        rows = [(reader.line_num, [field.strip() for field in fields]) for fields in reader]
    except csv.Error as error:
        raise ValueError(f"not a table ({error})") from None
    filled = [row for row in rows if any(row[1])]
    return Table(separator, tuple(filled[named:]))


def format_table(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows as CSV in UTF-8; of names that are not, a backslash and the number for each byte."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")


def printable(text: str) -> str:
    """Text that any reader takes: as `format_table` writes it."""
    return text.encode(errors="backslashreplace").decode()


def _decode(content: bytes) -> str:
    if content.startswith(UTF16):
        return content.decode("utf-16", errors="replace")
    return content.decode("utf-8-sig", errors="surrogateescape")


def number_or_blank(value: float | None, digits: int) -> str:
    """A number with so many digits after the point; empty for None and NaN."""
    return "" if value is None or value != value else f"{value:.{digits}f}"
