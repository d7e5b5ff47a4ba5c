"""`cner serve`."""

from __future__ import annotations

import click

from constrained_ner.cli.messages import is_quiet
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
    help="The most requests that are answered or wait; others are refused.",
)
@click.option(
    "--max-documents",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="The most documents of a batch.",
)
@click.option(
    "--max-batch-characters",
    type=click.IntRange(1),
    default=1_000_000,
    show_default=True,
    help="The most characters of a batch's texts together.",
)
@click.option(
    "--grace",
    type=click.IntRange(0),
    default=30,
    show_default=True,
    help="Seconds that requests have to be answered when the server is told to end; then 503.",
)
def serve(
    model: str,
    adapter: str | None,
    device: str,
    dtype: str,
    quantize: str | None,
    batch_size: int,
    host: str,
    port: int,
    max_characters: int,
    max_labels: int,
    max_waiting: int,
    max_documents: int,
    max_batch_characters: int,
    grace: int,
) -> None:
    """Answer over HTTP: POST /predict, /docs about it, and a page to try it (extra `serve`)."""
    try:
        import fastapi_offline  # noqa: F401

        from constrained_ner.serve.running import Server, bind
    except ImportError:
        raise MissingExtraError("the server", "serve") from None
    place = bind(host, port)
    from constrained_ner.pipeline.extractor import Extractor
    from constrained_ner.serve.app import Limits, create_app

    extractor = Extractor(
        model, adapter, device=device, dtype=dtype, quantize=quantize, batch_size=batch_size
    )
    limits = Limits(max_characters, max_labels, max_waiting, max_documents, max_batch_characters)
    app = create_app(extractor, limits)
    listening = f"[{host}]" if ":" in host else host
    click.echo(f"http://{listening}:{place.getsockname()[1]} is a page to try it, /docs tells more")
    Server(app, grace, log_level="warning" if is_quiet() else "info").run(sockets=[place])
