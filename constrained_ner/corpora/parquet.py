"""Parquet files (extra `tables`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from constrained_ner.corpora.files import File
from constrained_ner.errors import CnerError, InputError, MissingExtraError

SUFFIX = ".parquet"


def check_installed() -> None:
    """Raises `MissingExtraError` without pyarrow."""
    if find_spec("pyarrow") is None:
        raise MissingExtraError("parquet files", "tables")


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


def rows(file: File) -> Iterator[dict[str, Any]]:
    """Its rows, as Python values.

    Raises
    ------
    InputError: the file cannot be read, or is not parquet.
    MissingExtraError: pyarrow is not installed.
    """
    with _opened(file) as found:
        for batch in found.iter_batches(batch_size=1000):
            yield from batch.to_pylist()
