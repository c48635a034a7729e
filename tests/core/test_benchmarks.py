from polyvec.evaluate.benchmarks import BENCHMARKS, PAGE_PIXELS, TOKENS, Rule, rule_of_type

STS = (
    "BIOSSES", "SICK-R", "STS12", "STS13", "STS14", "STS15", "STS17", "STS22.v2", "STSBenchmark",
)  # fmt: skip
RETRIEVAL = (
    "ArguAna", "CQADupstackGamingRetrieval", "CQADupstackUnixRetrieval", "ClimateFEVERHardNegatives",
    "FEVERHardNegatives", "FiQA2018", "HotpotQAHardNegatives", "SCIDOCS", "TRECCOVID", "Touche2020Retrieval.v3",
)  # fmt: skip


def test_the_english_part_of_mteb_is_ten_searches_and_nine_sts():
    rules = BENCHMARKS["MTEB(eng, v2)"].rules
    assert tuple(rules) == RETRIEVAL + STS
    assert {name for name, rule in rules.items() if rule.task == "text-matching"} == {"ArguAna", *STS}


def test_each_benchmark_has_its_number_of_tasks():
    assert {name: len(benchmark.rules) for name, benchmark in BENCHMARKS.items()} == {
        "JinaVDR": 43, "JinaVDR (QA)": 43, "ViDoRe(v1)": 10, "ViDoRe(v2)": 4, "ViDoRe(v3)": 10, "ViDoRe(v3.1)": 10,
        "CoIR": 10, "LongEmbed": 6, "MTEB(eng, v2)": 19, "MTEB(Multilingual, v2)": 32, "VisualSTS": 7, "MIEB(lite)": 51,
        "CLIP": 4,
    }  # fmt: skip


def test_pages_have_the_papers_budget_and_long_texts_its_limit():
    for name in ("JinaVDR", "JinaVDR (QA)", "ViDoRe(v1)", "ViDoRe(v2)", "ViDoRe(v3)"):
        assert set(BENCHMARKS[name].rules.values()) == {Rule("retrieval", max_pixels=PAGE_PIXELS)}
    assert {(rule.task, rule.max_length) for rule in BENCHMARKS["LongEmbed"].rules.values()} == {("retrieval", TOKENS)}
    assert {rule.task for rule in BENCHMARKS["CoIR"].rules.values()} == {"code"}
    assert {rule.metric for rule in BENCHMARKS["CLIP"].rules.values()} == {"recall_at_5"}
    assert (PAGE_PIXELS, TOKENS) == (37_788_800, 32_768)


def test_a_task_is_encoded_in_one_way_in_all_benchmarks():
    ways = {}
    for benchmark in BENCHMARKS.values():
        for name, rule in benchmark.rules.items():
            way = (rule.task, rule.query, rule.document, rule.max_pixels, rule.max_length)
            assert ways.setdefault(name, way) == way, name


def test_prefixes_follow_from_adapter_and_side():
    rules = BENCHMARKS["MTEB(Multilingual, v2)"].rules
    assert rules["ArguAna"].prefixes == ("Query: ", "Query: ")
    assert rules["SCIDOCS"].prefixes == ("Query: ", "Passage: ")
    assert rules["StackOverflowQA"].task == "code"
    assert rules["LEMBPasskeyRetrieval"].max_length == TOKENS


def test_other_tasks_have_the_rule_of_their_type():
    assert rule_of_type("X", "Reranking") == Rule("retrieval")
    assert rule_of_type("X", "DocumentUnderstanding").max_pixels == PAGE_PIXELS
    assert rule_of_type("X", "Clustering").task == "text-matching"
    assert rule_of_type("X", "Retrieval", programming=True).task == "code"
    assert rule_of_type("ArguAna", "Retrieval").task == "text-matching"
