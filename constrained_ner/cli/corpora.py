"""`cner corpora`."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from constrained_ner.cli.messages import report_left_out
from constrained_ner.cli.options import (
    OutputFolder,
    check_replaceable,
    given,
    overruled,
    overwrite_option,
)
from constrained_ner.corpora.catalogue import (
    CORPORA,
    SEED,
    SPLITS,
    Download,
    PublishedCorpus,
    get_corpus,
)

if TYPE_CHECKING:
    from constrained_ner.corpora.prepare import Prepared


@click.group(invoke_without_command=True)
@click.pass_context
def corpora(ctx: click.Context) -> None:
    """List the eight corpora of the paper; show or prepare one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(show)


@corpora.command()
@click.argument("name", required=False)
@click.option(
    "--output-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to write it.",
)
def show(name: str | None, output_format: str) -> None:
    """Show everything that is known about the corpus NAME; without it, list all."""
    if name is not None:
        corpus = get_corpus(name)
        click.echo(_json(asdict(corpus)) if output_format == "json" else _text(corpus, full=True))
    elif output_format == "json":
        click.echo(_json([asdict(corpus) for corpus in CORPORA.values()]))
    else:
        click.echo("\n\n".join(_text(corpus) for corpus in CORPORA.values()))


@corpora.command()
@click.argument("name")
@click.option(
    "--from",
    "path",
    type=click.Path(exists=True, path_type=Path),
    help="Your copy: a file, a folder or an archive.",
)
@click.option("--download", is_flag=True, help="Fetch a copy into the folder `source` of DIR.")
@click.option(
    "-o",
    "--output",
    "folder",
    type=OutputFolder(),
    metavar="DIR",
    help="Where to write the splits; by default corpora/NAME.",
)
@click.option(
    "--seed",
    type=int,
    default=SEED,
    show_default=True,
    help="Seed of the random draw of the splits of CADEC and PGxCorpus.",
)
@overwrite_option
def prepare(
    name: str, path: Path | None, download: bool, folder: Path | None, seed: int, overwrite: bool
) -> None:
    """Turn a copy of the corpus NAME into train.jsonl, dev.jsonl and test.jsonl.

    The counts are checked against the published ones. The exit status is 1 where a split is
    missing or a record could not be read; a difference is reported only.
    """
    from constrained_ner.corpora.prepare import fetch, written_files
    from constrained_ner.corpora.prepare import prepare as prepare_corpus

    corpus = get_corpus(name)
    if given("seed") and corpus.cut != "random":
        raise click.UsageError(f"--seed: no draw makes the splits of {corpus.name}")
    if overruled("path", "download"):
        path = None
    if overruled("download", "path"):
        download = False
    if (path is None) != download:
        raise click.UsageError("expected either --from PATH or --download")
    folder = folder or Path("corpora", corpus.name)
    for file in written_files(folder):
        check_replaceable(file, overwrite=overwrite)
    if path is None:
        path = folder / "source"
        with _progress(corpus) as progress:
            fetch(corpus, path, progress)
        click.echo(f"fetched into {path} from {corpus.origin}")
    prepared = prepare_corpus(corpus, path, folder, seed)
    click.echo(_of_prepared(prepared))
    click.echo(f"written to {folder}: {', '.join(f'{s}.jsonl' for s in SPLITS)}, corpus.json")
    broken = dict.fromkeys(str(error) for split in prepared.splits for error in split.broken)
    report_left_out(broken)


@contextmanager
def _progress(corpus: PublishedCorpus) -> Iterator[Callable[[Download, int], None]]:
    """A progress bar for each file, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda file, done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
    ) as bar:
        tasks = {file: bar.add_task(file.name, total=file.bytes) for file in corpus.downloads}
        yield lambda file, done: bar.update(tasks[file], completed=done)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)


def _text(corpus: PublishedCorpus, full: bool = False) -> str:
    sentences = zip(corpus.sentences, SPLITS, strict=True)
    fields = {
        "labels": ", ".join(corpus.labels),
        "sentences": ", ".join(f"{n} {split}" for n, split in sentences),
        "licence": corpus.licence,
        "source": corpus.source,
        "redistribution": corpus.redistribution,
        "download": corpus.origin,
    }
    if full:
        mentions = [str(n) for n in corpus.mentions]
        if len(mentions) == len(SPLITS):
            mentions = [f"{n} {split}" for n, split in zip(mentions, SPLITS, strict=True)]
        fields |= {
            "mentions": ", ".join(mentions) or "not counted",
            "splits": corpus.splits,
            "notes": corpus.notes,
            "citation": corpus.citation,
            "other names": ", ".join(corpus.aliases),
            **{f"{new} is": ", ".join(old) for new, old in corpus.merged.items()},
        }
    width = 1 + max(map(len, fields))
    lines = [f"{corpus.name}: {corpus.title}"]
    for key, value in fields.items():
        lines += textwrap.wrap(
            value,
            width=98,
            initial_indent=f"  {key:{width}}",
            subsequent_indent=" " * (2 + width),
            break_long_words=False,
            break_on_hyphens=False,
        )
    for file in corpus.downloads if full else ():
        lines += [f"  {file.url}", f"    {file.bytes} bytes, sha256 {file.sha256}"]
    return "\n".join(lines)


def _of_prepared(prepared: Prepared) -> str:
    corpus = prepared.corpus
    lines = [f"{corpus.name}: {', '.join(corpus.labels)}"]
    for split in prepared.splits:
        count, mentions = len(split.documents), split.mentions.total()
        cut = {
            None: "",
            "order": ", cut in document order",
            "random": f", drawn with seed {prepared.seed}",
        }[split.cut]
        lines.append(
            f"  {split.name:5} {count:6} texts {mentions:6} mentions, "
            f"from {split.origin} ({split.format}{cut})"
        )
    if prepared.differences:
        lines.append("differences from what is published, and remarks:")
        lines += [f"  {difference}" for difference in prepared.differences]
        lines += [f"  note: {corpus.notes}"] if corpus.notes else []
    else:
        counted = " and the mentions" if corpus.mentions else ""
        lines.append(f"as published: the sentences of the paper's Table 1{counted}")
    return "\n".join(lines)
