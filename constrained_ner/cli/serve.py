"""`cner serve`."""

from __future__ import annotations

import socket

import click

from constrained_ner.cli.options import model_options
from constrained_ner.errors import MissingExtraError


@click.command()
@model_options
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; by default only this machine can connect.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port."
)
@click.option(
    "--max-characters",
    type=click.IntRange(1),
    default=20_000,
    show_default=True,
    help="The longest text that is accepted.",
)
@click.option(
    "--max-labels",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="The most labels of a request.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="The most requests that wait; others are refused.",
)
def serve(
    model: str,
    adapter: str | None,
    device: str,
    dtype: str,
    batch_size: int,
    host: str,
    port: int,
    max_characters: int,
    max_labels: int,
    max_waiting: int,
) -> None:
    """Answer over HTTP: POST /predict, and a page to try it (extra `serve`)."""
    try:
        import fastapi  # noqa: F401
        import uvicorn
    except ImportError:
        raise MissingExtraError("the server", "serve") from None
    _check_address(host, port)
    from constrained_ner.pipeline.extractor import Extractor
    from constrained_ner.serve.app import Limits, create_app

    extractor = Extractor(model, adapter, device=device, dtype=dtype, batch_size=batch_size)
    limits = Limits(max_characters, max_labels, max_waiting)
    uvicorn.run(create_app(extractor, limits), host=host, port=port, log_level="info")


def _check_address(host: str, port: int) -> None:
    """See that the server can listen here, before the model is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise click.ClickException(f"cannot listen at {host}:{port}: {error.strerror}") from None
