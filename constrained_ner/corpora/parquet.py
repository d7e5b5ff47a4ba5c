"""Parquet files (extra `tables`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from constrained_ner.corpora.files import File
from constrained_ner.errors import CnerError, InputError, reason_of, require

SUFFIX = ".parquet"


def check_installed() -> None:
    """Raises `MissingExtraError` without pyarrow."""
    require("pyarrow", "parquet files", "tables")


@contextmanager
def _opened(file: File) -> Iterator[Any]:
    """The file as pyarrow reads it.

    Raises
    ------
    InputError: it cannot be read, or is not parquet.
    MissingExtraError: pyarrow is not installed.
    """
    check_installed()
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    with file.open() as source:
        try:
            yield ParquetFile(source)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"not a parquet file: {error}", file.place) from None


def columns(file: File) -> list[str]:
    """The names of its columns; raises what `rows` does."""
    with _opened(file) as found:
        return list(found.schema_arrow.names)


def columns_if_readable(file: File) -> list[str]:
    """The same for recognising it: none where it cannot be read."""
    try:
        return columns(file)
    except CnerError:
        return []


def rows(file: File) -> Iterator[dict[str, Any] | InputError]:
    """Its rows, as Python values; what is wrong with one that Python has no values for.

    Raises
    ------
    InputError: the file cannot be read, or is not parquet.
    MissingExtraError: pyarrow is not installed.
    """
    with _opened(file) as found:
        for batch in found.iter_batches(batch_size=1000):
            try:
                some = batch.to_pylist()
            except (ValueError, OverflowError):
                some = [_row(batch.slice(at, 1)) for at in range(batch.num_rows)]
            yield from some


def _row(batch: Any) -> dict[str, Any] | InputError:
    """The only row of a batch. Text may be no UTF-8, and a date beyond Python's."""
    try:
        (row,) = batch.to_pylist()
    except (ValueError, OverflowError) as error:
        return InputError(reason_of(error))
    found: dict[str, Any] = row
    return found
