"""Parquet files (extra `tables`)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from constrained_ner.corpora.files import File
from constrained_ner.errors import InputError, MissingExtraError

SUFFIX = ".parquet"


def installed() -> bool:
    return find_spec("pyarrow") is not None


def check_installed() -> None:
    """Raises `MissingExtraError` without pyarrow."""
    if not installed():
        raise MissingExtraError("parquet files", "tables")


def columns(file: File) -> list[str]:
    """The names of its columns; none where it cannot be read."""
    if not installed():
        return []
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with file.open() as source:
            return list(ParquetFile(source).schema_arrow.names)
    except (InputError, pa.ArrowException, OSError, ValueError):
        return []


def rows(file: File) -> Iterator[dict[str, Any]]:
    """Its rows, as Python values.

    Raises
    ------
    InputError: the file cannot be read, or is not parquet.
    MissingExtraError: pyarrow is not installed.
    """
    check_installed()
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    with file.open() as source:
        try:
            for batch in ParquetFile(source).iter_batches(batch_size=1000):
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"not a parquet file: {error}", file.place) from None
