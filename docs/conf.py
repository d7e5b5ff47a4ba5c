"""The documentation as a site, by Sphinx: `make docs` builds it into build/site.

Its pages are those of the repository, as they lie there, README first; so their links hold in both.
"""

from __future__ import annotations

from importlib.metadata import metadata

_about = metadata("constrained_ner")
project, version = _about["Name"], _about["Version"]
release, author, copyright = version, "the authors of constrained_ner", "Apache-2.0"

extensions = ["myst_parser"]
root_doc = "README"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/*.md",
    "grammars/README.md",
    "constrained_ner/samples/README.md",
    "benchmarks/results/compare/report.md",
]
nitpicky = True
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_ambiguous"]

html_theme = "furo"
html_title = project
html_extra_path = ["site"]  # index.html, which leads to README.html
html_copy_source = html_show_sourcelink = False

# What stands beside each page. README says it in words, and has to look well in the repository.
_PARTS = {
    "Use": (
        "predict",
        "which_format",
        "agreement",
        "engines",
        "commands",
        "integrations",
        "security",
    ),
    "Corpora": ("corpora", "catalogue", "../constrained_ner/samples/README"),
    "Models and scores": (
        "training",
        "evaluation",
        "benchmark",
        "measurements",
        "../benchmarks/results/compare/report",
    ),
    "How it works": ("one_sentence", "budget", "../grammars/README", "glossary"),
    "Project": ("../CONTRIBUTING", "../CHANGELOG"),
}


def _add_navigation(app: object, name: str, source: list[str]) -> None:
    if name != root_doc:
        return
    for part, pages in _PARTS.items():
        listed = "\n".join(f"/docs/{page}".replace("/docs/..", "") for page in pages)
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {part}\n\n{listed}\n```\n"


def setup(app: object) -> None:
    app.connect("source-read", _add_navigation)  # type: ignore[attr-defined]
