"""The eight corpora of the paper: what they hold, under which terms, and how they are split.

Sources: the paper's Table 1 for the sentences of each split; the published files themselves for the
mentions; the licence texts that come with the corpora.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from constrained_ner.errors import UnknownNameError

SPLITS = ("train", "dev", "test")
SEED = 0


@dataclass(frozen=True)
class Download:
    """A file to fetch: where it is, its name below the folder, its checksum, its size in bytes."""

    url: str
    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class PublishedCorpus:
    """One corpus.

    Attributes
    ----------
    labels: those of the paper. `merged`: by label, those of the corpus that become it.
    source: the official page. `licence`, `redistribution`: what its authors allow.
    sentences: of train, dev and test, in the paper's Table 1.
    mentions: of train, dev and test in the published files, or the sum alone where the splits are
        drawn here; empty where the files could not be had and counted.
    cut: how one file without splits is cut: in document `order`, or by a `random` draw. None: its
        copies come in splits.
    by_line: whether its documents are cut into sentences at line breaks.
    splits: where the splits come from, in words. `notes`: why counts may differ from these.
    origin: whose copies `downloads` are; without any, where to ask.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    licence: str
    redistribution: str
    source: str
    citation: str
    sentences: tuple[int, int, int]
    splits: str
    origin: str
    mentions: tuple[int, ...] = ()
    downloads: tuple[Download, ...] = ()
    merged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cut: Literal["order", "random"] | None = None
    by_line: bool = False
    notes: str = ""
    aliases: tuple[str, ...] = ()


def _files(repo: str, commit: str, *files: tuple[str, str, str, int]) -> tuple[Download, ...]:
    """Files of a GitHub repository at a commit: name here, path there, sha256, bytes."""
    base = f"https://raw.githubusercontent.com/{repo}/{commit}"
    return tuple(
        Download(f"{base}/{path}", name, sha256, bytes) for name, path, sha256, bytes in files
    )


_MTL = ("cambridgeltl/MTL-Bioinformatics-2016", "df0df02fae6dbb87d88ffcf323b9096528f06f84")
_MTL_LICENCE = (
    "LICENSE.conversion.md",
    "LICENSE.md",
    "fd3a263fe19ed8faa9068b43abaebafc02c77897b0c6fc09abc04bb592e5f16e",
    18651,
)
_MIRROR = "a mirror on GitHub, pinned by commit and checksum: "

_ALL = (
    PublishedCorpus(
        name="anatem",
        title="AnatEM, anatomical entity mentions",
        labels=("Anatomy",),
        merged={
            "Anatomy": (
                "Anatomical_system",
                "Cancer",
                "Cell",
                "Cellular_component",
                "Developing_anatomical_structure",
                "Immaterial_anatomical_entity",
                "Multi-tissue_structure",
                "Organ",
                "Organism_subdivision",
                "Organism_substance",
                "Pathological_formation",
                "Tissue",
            )
        },
        licence="CC BY-SA 3.0 (annotations); the texts are of PubMed and of PubMed Central",
        redistribution=(
            "The annotations, also converted, may be passed on with attribution and under the same "
            "licence. Not covered: the abstracts (terms of the NLM) and the full-text extracts "
            "(the licence of each article)."
        ),
        source="http://nactem.ac.uk/anatomytagger/",
        citation=(
            "Pyysalo and Ananiadou, Anatomical entity mention recognition at literature scale, "
            "Bioinformatics 30(6), 2014"
        ),
        sentences=(5861, 2118, 3830),
        mentions=(6946, 2139, 4616),
        splits="published: train, devel and test",
        notes="The standoff files hold whole abstracts and extracts; the CoNLL files, sentences.",
        origin=_MIRROR + "the IOB2 conversion of cambridgeltl/MTL-Bioinformatics-2016, one label",
        downloads=_files(
            *_MTL,
            (
                "train.tsv",
                "data/AnatEM-IOB/train.tsv",
                "bd4235e9673f7c67667c1eb321903a51544a94cf481ba265b527b3104d6ba806",
                1280190,
            ),
            (
                "devel.tsv",
                "data/AnatEM-IOB/devel.tsv",
                "0758bb2f26ec12fc717c1054b64ea00a40c7aae26b21a7541b86fbfba66119ec",
                480960,
            ),
            (
                "test.tsv",
                "data/AnatEM-IOB/test.tsv",
                "a3d6555f6f5b7809fc014bee975be0db93c012d770ab60c190cf37d589e97fc9",
                833816,
            ),
            _MTL_LICENCE,
        )
        + _files(
            "openbiocorpora/anatem",
            "a0209b9d37fb9eb8a2c986f63a5352bd66bc3f2e",
            (
                "LICENSE",
                "original-data/LICENSE",
                "b2640ef28615e58d772a9ea71c94d28c3c45c9443217f83112382303ec3311e5",
                1107,
            ),
        ),
    ),
    PublishedCorpus(
        name="bc2gm",
        title="BioCreative II gene mentions",
        labels=("GENE",),
        licence="public domain (a work of the US government)",
        redistribution=(
            "Corpus and conversions may be passed on without restriction; its authors ask to be "
            "cited. The abstracts that the sentences come from may be protected outside the "
            "United States."
        ),
        source="https://biocreative.bioinformatics.udel.edu/resources/corpora/biocreative-ii-corpus/",
        citation=(
            "Smith et al., Overview of BioCreative II gene mention recognition, Genome Biology "
            "9(S2), 2008"
        ),
        sentences=(12500, 2500, 5000),
        mentions=(15197, 3061, 6325),
        splits=(
            "train and test are published; dev is the 2,500 of the 15,000 training sentences that "
            "the mirror cut out (in the original files: those that devel.ids names)"
        ),
        notes=(
            "The original files have 13 mentions inside others, which the conversion leaves out "
            "(7 in train, 6 in test), and one whose offsets do not match its text."
        ),
        origin=_MIRROR + "the IOB2 conversion of spyysalo/bc2gm-corpus",
        downloads=_files(
            "spyysalo/bc2gm-corpus",
            "018161681145daf751af037cb890f3a54f62a74d",
            (
                "train.tsv",
                "conll/train.tsv",
                "07f696560252dc5a3d47a5cea1ce36b7434865131b5bc4b3a6d1fb02a382ce10",
                2894093,
            ),
            (
                "devel.tsv",
                "conll/devel.tsv",
                "639fe423c00beeb33e83ef71e90af765c6d9cde61f52df0fbbb9d624302f5437",
                577641,
            ),
            (
                "test.tsv",
                "conll/test.tsv",
                "ac7745e40d97ffdf603aae661da37fa6065a7e2f9067ea1f47bfae3e5bf5d583",
                1165019,
            ),
            (
                "NOTICE",
                "original-data/NOTICE",
                "5b6338964360911f2d2699865ded093531a89648db0bf2ceeea667b614cde4bd",
                1398,
            ),
        ),
    ),
    PublishedCorpus(
        name="bc4chemd",
        title="BioCreative IV CHEMDNER, chemical mentions",
        labels=("Chemical",),
        merged={
            "Chemical": (
                "ABBREVIATION",
                "FAMILY",
                "FORMULA",
                "IDENTIFIER",
                "MULTIPLE",
                "NO CLASS",
                "SYSTEMATIC",
                "TRIVIAL",
            )
        },
        licence="not stated",
        redistribution=(
            "Without a stated licence neither the corpus nor a conversion of it may be passed on."
        ),
        source="https://biocreative.bioinformatics.udel.edu/resources/biocreative-iv/chemdner-corpus/",
        citation=(
            "Krallinger et al., The CHEMDNER corpus of chemicals and drugs and its annotation "
            "principles, Journal of Cheminformatics 7(S1), 2015"
        ),
        sentences=(30682, 30639, 26364),
        splits="published: training, development and evaluation (the test split), by abstract",
        notes=(
            "The original files hold abstracts, 3,500, 3,500 and 3,000, where the paper counts "
            "sentences."
        ),
        origin="not fetched: its licence is not stated. Take it from the official page.",
        aliases=("chemdner", "chemd"),
    ),
    PublishedCorpus(
        name="bc5cdr",
        title="BioCreative V chemicals and diseases",
        labels=("Chemical", "Disease"),
        licence="CC BY 4.0 (the IOB2 conversion); none comes with the mirror of the originals",
        redistribution=(
            "The IOB2 conversion may be passed on, also changed, with attribution. For the "
            "original BioC and PubTator files ask the organisers; the abstracts are under the "
            "terms of the NLM."
        ),
        source="https://biocreative.bioinformatics.udel.edu/resources/corpora/biocreative-v-cdr-corpus/",
        citation=(
            "Li et al., BioCreative V CDR task corpus: a resource for chemical disease relation "
            "extraction, Database, 2016"
        ),
        sentences=(4560, 4581, 4797),
        mentions=(9385, 9593, 9809),
        splits="published: training, development and test, 500 abstracts each",
        notes=(
            "BioC and PubTator files hold abstracts. The BioC files write a composite mention as "
            "several, some of them discontinuous; the PubTator file of dev has 9,591 mentions."
        ),
        origin=_MIRROR + "the IOB2 conversion of cambridgeltl/MTL-Bioinformatics-2016",
        downloads=_files(
            *_MTL,
            (
                "train.tsv",
                "data/BC5CDR-IOB/train.tsv",
                "b731361c0ed73afd04cc5fdad39afcdfd8f325d6e46c282339185a91d1af4c14",
                1039940,
            ),
            (
                "devel.tsv",
                "data/BC5CDR-IOB/devel.tsv",
                "b909de65c4f7e3c23bb09ad52d654cdc92e96db941abe1a5dcf6f6010c03cff5",
                1031781,
            ),
            (
                "test.tsv",
                "data/BC5CDR-IOB/test.tsv",
                "e41a2843a5fff0cd8d1a88cb147968d61ae29336ca70cddc3d7fb8ff21dfa1e8",
                1080717,
            ),
            _MTL_LICENCE,
        ),
        aliases=("cdr",),
    ),
    PublishedCorpus(
        name="cadec",
        title="CADEC, CSIRO adverse drug event corpus",
        labels=("ADR", "Disease", "Drug", "Finding", "Symptom"),
        licence="CSIRO Data Licence: not for commercial use, not transferable",
        redistribution=(
            "Neither the corpus nor a conversion of it may be passed on: everyone takes a copy "
            "from CSIRO."
        ),
        source="https://doi.org/10.4225/08/570FB102BDAD2",
        citation=(
            "Karimi et al., Cadec: a corpus of adverse drug event annotations, Journal of "
            "Biomedical Informatics 55, 2015"
        ),
        sentences=(5317, 1140, 1140),
        splits=(
            "the paper's 70/15/15 is not published: the sentences are drawn here, by seed. A "
            "sentence is a line of a post that is not blank, as in Dai et al., An effective "
            "transition-based model for discontinuous NER, 2020, which gives 7,597"
        ),
        notes="The sentences of one post may come into different splits.",
        origin="not fetched: its licence forbids it. Take it from CSIRO's page.",
        cut="random",
        by_line=True,
    ),
    PublishedCorpus(
        name="genia",
        title="GENIA 3.02, term annotation",
        labels=("DNA", "RNA", "cell_line", "cell_type", "protein"),
        licence="CC BY 3.0 (annotations, GENIA Project License); the abstracts are of PubMed",
        redistribution=(
            "The annotations, also converted, may be passed on with the attribution 'Corpus "
            "annotations (c) GENIA Project' and the text of the licence. Not covered: the "
            "abstracts (terms of the NLM)."
        ),
        source="http://www.geniaproject.org/",
        citation=(
            "Kim et al., GENIA corpus: a semantically annotated corpus for bio-textmining, "
            "Bioinformatics 19(S1), 2003"
        ),
        sentences=(15023, 1669, 1854),
        mentions=(46185, 4379, 5515),
        splits="by document order: sentences 1-15023, 15024-16692 and 16693-18546",
        notes=(
            "The published counts are of annotations: 33 of them say the same as another one of "
            "their sentence and are kept once. An article comes twice in train."
        ),
        origin=_MIRROR + "the original archive, in frankTian92/Overview_NER",
        downloads=_files(
            "frankTian92/Overview_NER",
            "2cd9b65a9ed462ffa40116f5df4231ae708952e8",
            (
                "GENIAcorpus3.02.tgz",
                "GENIAcorpus3.02.tgz",
                "85b2aede313308c33783ba508d054d0af0ff9c7e48490f0db5168a9f88d74d1c",
                1651614,
            ),
        )
        + _files(
            "openbiocorpora/genia-term",
            "2a7e316bb7bce39fd001a4e16fa9267b04b2b138",
            (
                "LICENSE",
                "LICENSE",
                "ec7ff63a1f9a81e2ee19d543098f99b0251ac0afbd4d54f8d6b04dcb5e84e902",
                3792,
            ),
        ),
        cut="order",
        aliases=("genia_ner",),
    ),
    PublishedCorpus(
        name="ncbi-disease",
        title="NCBI disease corpus",
        labels=("Disease",),
        merged={"Disease": ("CompositeMention", "DiseaseClass", "Modifier", "SpecificDisease")},
        licence="public domain (a work of the US government)",
        redistribution=(
            "Corpus and conversions may be passed on without restriction; its authors ask to be "
            "cited. The abstracts may be protected outside the United States."
        ),
        source="https://www.ncbi.nlm.nih.gov/CBBresearch/Dogan/DISEASE/",
        citation=(
            "Doğan, Leaman and Lu, NCBI disease corpus: a resource for disease name recognition "
            "and concept normalization, Journal of Biomedical Informatics 47, 2014"
        ),
        sentences=(5432, 923, 940),
        mentions=(5145, 787, 960),
        splits="published: train, develop and test",
        notes=(
            "The training split has 5,432 sentences in spyysalo/ncbi-disease, as in the paper, "
            "and 5,424 in other IOB2 conversions, which leave out an abstract that comes twice. "
            "The other formats hold abstracts."
        ),
        origin=(
            _MIRROR + "the IOB2 conversions of spyysalo/ncbi-disease (train) and "
            "cambridgeltl/MTL-Bioinformatics-2016 (dev and test)"
        ),
        downloads=_files(
            "spyysalo/ncbi-disease",
            "5a266c6fc76fb2b5184cfa397ff0a5ecdb133aec",
            (
                "train.tsv",
                "conll/train.tsv",
                "5f87b0de649eccff21e6d6e49e304aace808056ecae55225ea31602192517be9",
                1140476,
            ),
            (
                "LICENSE",
                "original-data/LICENSE",
                "77f63de888c0a31dbdcc3f19a66d9c7ea64072f487fb302f250b1e7593d50ec9",
                1260,
            ),
        )
        + _files(
            *_MTL,
            (
                "devel.tsv",
                "data/NCBI-disease-IOB/devel.tsv",
                "b4e1e7efcc2a35047bf2f3d281648357470e674f555d4a26a0049ac37d59cc61",
                200352,
            ),
            (
                "test.tsv",
                "data/NCBI-disease-IOB/test.tsv",
                "8f088ce45dc4746592188f9e69de3d89d87f3bb8f0ed8c4a287d018123fa148d",
                205664,
            ),
            _MTL_LICENCE,
        ),
        aliases=("ncbi",),
    ),
    PublishedCorpus(
        name="pgxcorpus",
        title="PGxCorpus, pharmacogenomics",
        labels=(
            "Chemical",
            "Disease",
            "Gene_or_protein",
            "Genomic_factor",
            "Genomic_variation",
            "Haplotype",
            "Limited_variation",
            "Pharmacodynamic_phenotype",
            "Pharmacokinetic_phenotype",
            "Phenotype",
        ),
        licence="CC BY-NC 4.0",
        redistribution=(
            "Corpus and conversions may be passed on with attribution, not for commercial use."
        ),
        source="https://github.com/practikpharma/PGxCorpus",
        citation=(
            "Legrand et al., PGxCorpus, a manually annotated corpus for pharmacogenomics, "
            "Scientific Data 7:3, 2020"
        ),
        sentences=(661, 142, 142),
        mentions=(6761,),
        splits="the paper's 70/15/15 is not published: the sentences are drawn here, by seed",
        origin="the authors' own repository, pinned by commit and checksum",
        downloads=_files(
            "practikpharma/PGxCorpus",
            "067513c1ed0ad55c28e62aef5a5bc14b6945595e",
            (
                "PGxCorpus.tar",
                "PGxCorpus.tar",
                "615d2a3b33c2d86b78b2e833b586e53280cb91736c359796f772b92d519c5462",
                2078720,
            ),
            (
                "LICENSE.txt",
                "LICENSE.txt",
                "67ce293f9569359eb43f128e485e5f00917c1c76605144118459ebbfd5ca1c99",
                13326,
            ),
        ),
        cut="random",
        aliases=("pgx",),
    ),
)

CORPORA = {corpus.name: corpus for corpus in _ALL}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def get_corpus(name: str) -> PublishedCorpus:
    """A corpus by its name or an alias, whatever their case, `-`, `_` and spaces.

    Raises
    ------
    UnknownNameError: there is none.
    """
    for corpus in _ALL:
        if _plain(name) in map(_plain, (corpus.name, *corpus.aliases)):
            return corpus
    raise UnknownNameError(f"unknown corpus {name!r}: there are {', '.join(CORPORA)}")
