"""Which tasks a benchmark has, and how each is encoded: adapter, sides, pixel budget and token limit.

Where the paper (arXiv 2506.18902) says how, the rule is the paper's. All benchmarks encode a task in the same way, so
they share its result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from polyvec.evaluate.paper import tasks_of
from polyvec.prompts import prefix
from polyvec.types import Side

__all__ = ["BENCHMARKS", "PAGE_PIXELS", "PAPER", "QA_SUFFIX", "TOKENS", "Benchmark", "Rule", "rule_of_type"]

PAGE_PIXELS = 37_788_800  # the paper's budget for pages
TOKENS = 32_768  # the paper's limit for long texts
QA_SUFFIX = " (QA)"  # of tasks of Jina-VDR in the QA format, whose scores differ from those of mteb's BEIR format


@dataclass(frozen=True, slots=True)
class Rule:
    """How the items of a task are encoded and scored.

    Attributes:
        task: the adapter.
        query: the side of queries, and of both texts of a pair.
        document: the side of documents.
        max_pixels: the pixel budget of images; None is the encoder's own.
        max_length: the token limit of texts; None is the encoder's own.
        metric: the name of the score in mteb's results; None is the task's main score.
        subsets: the subsets to run; all if empty.
        note: why, where that is not evident.
    """

    task: str
    query: Side = "query"
    document: Side = "document"
    max_pixels: int | None = None
    max_length: int | None = None
    metric: str | None = None
    subsets: tuple[str, ...] = ()
    note: str = ""

    @property
    def prefixes(self) -> tuple[str, str]:
        """The words that jina-embeddings-v4 reads before a query and before a document."""
        return prefix(self.task, self.query), prefix(self.task, self.document)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Tasks that are reported together.

    Attributes:
        name: what users write.
        source: mteb's benchmark, whose splits and subsets count; empty if mteb has none.
        rules: by task, in the order of the report.
        columns: the columns of the paper's Table 3 that the tasks belong to.
        notes: what a reader of the report must know.
    """

    name: str
    source: str
    rules: Mapping[str, Rule]
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


RETRIEVAL = Rule("retrieval")
SYMMETRIC = Rule("text-matching", document="query")
CODE = Rule("code")
PAGES = Rule("retrieval", max_pixels=PAGE_PIXELS)
LONG = Rule("retrieval", max_length=TOKENS)
CAPTIONS = Rule("retrieval", metric="recall_at_5")

# Of the languages of XM3600, those that jina-clip-v2 was trained for, too.
_XM3600 = (
    "ar", "bn", "da", "de", "el", "en", "es", "fi", "fr", "hi", "id", "it", "ja", "ko", "nl", "no", "pl", "pt", "ro",
    "ru", "sv", "th", "tr", "uk", "vi", "zh",
)  # fmt: skip

_EXCEPTIONS: Mapping[str, Rule] = {
    "ArguAna": replace(SYMMETRIC, note="the paper's choice: a counter-argument is like the argument"),
    "StackOverflowQA": replace(CODE, note="its rows in Tables A12 and A16 differ; the adapter is that of A16"),
    "LEMBPasskeyRetrieval": replace(LONG, note="its rows in Tables A12 and A13 differ; the limit is that of A13"),
    "XM3600T2IRetrieval": replace(CAPTIONS, subsets=_XM3600, note="the languages are inferred"),
}

# By the type of a task in mteb; every other type compares like with like.
_SEARCHES = frozenset(
    (
        "Retrieval", "Reranking", "InstructionRetrieval", "InstructionReranking", "DocumentUnderstanding",
        "Any2AnyRetrieval", "Any2AnyMultilingualRetrieval", "VisionCentricQA", "Compositionality",
        "ZeroShotClassification",
    )
)  # fmt: skip


def rule_of_type(name: str, kind: str, *, programming: bool = False) -> Rule:
    """Return the rule of a task that no benchmark here has, by mteb's type of task."""
    if name in _EXCEPTIONS:
        return _EXCEPTIONS[name]
    if programming:
        return CODE
    if kind == "DocumentUnderstanding":
        return PAGES
    return RETRIEVAL if kind in _SEARCHES else SYMMETRIC


def _rules(rule: Rule, *names: str) -> Mapping[str, Rule]:
    return MappingProxyType({name: _EXCEPTIONS.get(name, rule) for name in names})


def _join(*parts: Mapping[str, Rule]) -> Mapping[str, Rule]:
    return MappingProxyType({name: rule for part in parts for name, rule in part.items()})


_VIDORE_3 = tuple(
    f"Vidore3{name}Retrieval"
    for name in (
        "FinanceEn", "Industrial", "ComputerScience", "Pharmaceuticals", "Hr", "FinanceFr", "Physics", "Energy",
        "Telecom", "Nuclear",
    )
)  # fmt: skip
_MIXED = (
    "An item of image and text has the unit sum of both dense vectors, or both multi-vectors, as in mteb's wrapper."
)
_PRIVATE = "Telecom and Nuclear are private data sets; without access they are skipped."
_OURS = "The paper has no figures of this benchmark; the rules are ours."

_ALL = (
    Benchmark("JinaVDR", "JinaVDR", _rules(PAGES, *tasks_of("J-VDR")), ("J-VDR",)),
    Benchmark(
        f"JinaVDR{QA_SUFFIX}",
        "",
        _rules(PAGES, *(f"{name}{QA_SUFFIX}" for name in tasks_of("J-VDR"))),
        ("J-VDR",),
        ("The format that the paper used: one page is relevant to a query.",),
    ),
    Benchmark("ViDoRe(v1)", "ViDoRe(v1)", _rules(PAGES, *tasks_of("ViDoRe")), ("ViDoRe",)),
    Benchmark(
        "ViDoRe(v2)",
        "ViDoRe(v2)",
        _rules(
            PAGES,
            "Vidore2ESGReportsRetrieval",
            "Vidore2EconomicsReportsRetrieval",
            "Vidore2BioMedicalLecturesRetrieval",
            "Vidore2ESGReportsHLRetrieval",
        ),
        notes=(_OURS,),
    ),
    Benchmark("ViDoRe(v3)", "ViDoRe(v3)", _rules(PAGES, *_VIDORE_3), notes=(_OURS, _PRIVATE)),
    Benchmark(
        "ViDoRe(v3.1)",
        "ViDoRe(v3.1)",
        _rules(PAGES, *(f"{name}.v2" for name in _VIDORE_3)),
        notes=(_OURS, _PRIVATE, _MIXED),
    ),
    Benchmark("CoIR", "CoIR", _rules(CODE, *tasks_of("CoIR")), ("CoIR",)),
    Benchmark("LongEmbed", "LongEmbed", _rules(LONG, *tasks_of("LongEmbed")), ("LongEmbed",)),
    Benchmark(
        "MTEB(eng, v2)",
        "MTEB(eng, v2)",
        _join(_rules(RETRIEVAL, *tasks_of("MTEB-en")), _rules(SYMMETRIC, *tasks_of("STS-en"))),
        ("MTEB-en", "STS-en"),
        ("The paper's part: 10 retrieval and 9 STS tasks of 41. Name other tasks to run them.",),
    ),
    Benchmark(
        "MTEB(Multilingual, v2)",
        "MTEB(Multilingual, v2)",
        _join(_rules(RETRIEVAL, *tasks_of("MMTEB")), _rules(SYMMETRIC, *tasks_of("STS-m"))),
        ("MMTEB", "STS-m"),
        ("The paper's part: 18 retrieval and 14 STS tasks. Name other tasks to run them.",),
    ),
    Benchmark(
        "VisualSTS",
        "",
        _rules(
            SYMMETRIC,
            *(f"STS{year}VisualSTS" for year in range(12, 17)),
            "STS17MultilingualVisualSTS",
            "STSBenchmarkMultilingualVisualSTS",
        ),
        notes=(_OURS, "Texts of STS as screenshots."),
    ),
    Benchmark(
        "MIEB(lite)",
        "MIEB(lite)",
        _join(
            _rules(
                SYMMETRIC,
                "Country211", "DTD", "EuroSAT", "GTSRB", "OxfordPets", "PatchCamelyon", "RESISC45", "SUN397",
                "ImageNetDog15Clustering", "TinyImageNetClustering",
            ),
            _rules(
                RETRIEVAL,
                "CIFAR100ZeroShot", "Country211ZeroShot", "FER2013ZeroShot", "FGVCAircraftZeroShot", "Food101ZeroShot",
                "OxfordPetsZeroShot", "StanfordCarsZeroShot",
                "BLINKIT2IMultiChoice", "CVBenchCount", "CVBenchRelation", "CVBenchDepth", "CVBenchDistance",
                "AROCocoOrder", "AROFlickrOrder", "AROVisualAttribution", "AROVisualRelation", "Winoground",
                "ImageCoDe",
            ),
            _rules(
                SYMMETRIC,
                "STS13VisualSTS", "STS15VisualSTS", "VisualSTS17Multilingual", "VisualSTS-b-Multilingual",
            ),
            _rules(
                RETRIEVAL,
                "CIRRIT2IRetrieval", "CUB200I2IRetrieval", "Fashion200kI2TRetrieval", "HatefulMemesI2TRetrieval",
                "InfoSeekIT2TRetrieval", "NIGHTSI2IRetrieval", "OVENIT2TRetrieval", "RP2kI2IRetrieval",
            ),
            _rules(
                PAGES,
                "VidoreDocVQARetrieval", "VidoreInfoVQARetrieval", "VidoreTabfquadRetrieval", "VidoreTatdqaRetrieval",
                "VidoreShiftProjectRetrieval", "VidoreSyntheticDocQAAIRetrieval",
            ),
            _rules(
                RETRIEVAL,
                "VisualNewsI2TRetrieval", "VQA2IT2TRetrieval", "WebQAT2ITRetrieval", "WITT2IRetrieval",
            ),
            {"XM3600T2IRetrieval": RETRIEVAL},  # all languages, by mteb's own score
        ),
        notes=(_OURS, _MIXED),
    ),
    Benchmark("CLIP", "", _rules(CAPTIONS, *tasks_of("CLIPB")), ("CLIPB",), ("Scores are Recall@5, text to image.",)),
)  # fmt: skip

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType({benchmark.name: benchmark for benchmark in _ALL})

PAPER = ("JinaVDR", "ViDoRe(v1)", "CLIP", "MTEB(Multilingual, v2)", "MTEB(eng, v2)", "CoIR", "LongEmbed")
"""The benchmarks of the paper's Table 3."""
