"""The documentation as a site, by Sphinx: `make docs` builds it into build/site.

Its pages are those of the repository, as they lie there, README first; so their links hold in both.
"""

from __future__ import annotations

from importlib.metadata import metadata

from sphinx.application import Sphinx

_about = metadata("constrained_ner")
project, version = _about["Name"], _about["Version"]
release, author, copyright = version, "the authors of constrained_ner", "Apache-2.0"

# What is no page, and large.
exclude_patterns = [".*", "build", "tests"]

# What stands beside each page; README, which comes first, says it in words.
_PARTS = {
    "Use": (
        "docs/predict",
        "docs/which_format",
        "docs/agreement",
        "docs/engines",
        "docs/commands",
        "docs/integrations",
        "docs/security",
    ),
    "Corpora": ("docs/corpora", "docs/catalogue", "constrained_ner/samples/README"),
    "Models and scores": (
        "docs/findings",
        "docs/study",
        "docs/training",
        "docs/evaluation",
        "docs/benchmark",
        "docs/measurements",
        "benchmarks/results/compare/report",
        "benchmarks/results/study/report",
    ),
    "How it works": ("docs/one_sentence", "docs/budget", "grammars/README", "docs/glossary"),
    "Project": ("CONTRIBUTING", "CHANGELOG"),
}

extensions = ["myst_parser"]
root_doc = "README"
# All of docs, so that one without a place above is warned of.
include_patterns = ["README.md", "docs/*.md"]
include_patterns += [f"{page}.md" for pages in _PARTS.values() for page in pages]
nitpicky = True
myst_heading_anchors = 3

html_theme = "furo"
html_title = project
html_extra_path = ["site"]  # index.html, which leads to README.html
html_copy_source = html_show_sourcelink = False


def _add_navigation(app: Sphinx, name: str, source: list[str]) -> None:
    if name == root_doc:
        for part, pages in _PARTS.items():
            listed = "\n".join(f"/{page}" for page in pages)
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {part}\n\n{listed}\n```\n"


def setup(app: Sphinx) -> None:
    app.connect("source-read", _add_navigation)
