import ast
import re
from collections import Counter
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from polyvec.synthetic import words, world


def _rng(seed=0):
    return np.random.default_rng(seed)


def test_the_vocabulary_is_lower_case_and_every_word_stands_in_one_list():
    assert all(word == word.lower() and word for word in words.VOCABULARY)
    assert [word for word, n in Counter(words.VOCABULARY).items() if n > 1] == []


def test_words_have_neither_case_nor_punctuation():
    assert words.words("Oslo, 2003: 4.5 (Amber) Harbor?") == ("oslo", "2003", "4.5", "amber", "harbor")


def test_content_words_leave_out_what_states_no_fact():
    query = "What was the revenue of Amber Harbor Bank in Lisbon in 2014?"
    assert words.content_words(query) == ("revenue", "amber", "harbor", "bank", "lisbon", "2014")


def test_the_same_seed_tells_the_same_story():
    def story(seed):
        rng = _rng(seed)
        document = world.document(rng)
        return document, world.queries(document, rng), world.text_pair(rng), world.paraphrase_pair(rng)

    assert story(7) == story(7)
    assert story(7) != story(8)


def test_every_kind_of_document_is_drawn():
    rng = _rng()
    assert {world.document(rng).kind for _ in range(100)} == set(get_args(world.Kind))


def test_a_page_has_three_to_five_different_queries():
    rng = _rng()
    for _ in range(200):
        document = world.document(rng)
        found = world.queries(document, rng)
        assert 3 <= len(found) <= 5
        assert len({query.lower() for query in found}) == len(found)
        assert not any("{" in query for query in found)


def test_the_facts_of_a_text_query_stand_in_its_passage():
    rng = _rng()
    for _ in range(300):
        query, passage = world.text_pair(rng)
        assert set(words.content_words(query)) <= set(words.words(passage)), (query, passage)


def test_paraphrases_share_their_facts_and_differ_in_wording():
    rng = _rng()
    for _ in range(300):
        first, second = world.paraphrase_pair(rng)
        assert first != second
        assert set(words.content_words(first)) == set(words.content_words(second))


def test_code_parses_and_its_description_names_the_same_things():
    rng = _rng()
    for _ in range(300):
        query, code = world.code_pair(rng)
        (function,) = ast.parse(code).body
        assert isinstance(function, ast.FunctionDef)
        used = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
        assert used & set(words.words(query)) or "batch" in function.name
        assert set(re.findall(r"\d+", query)) <= set(re.findall(r"\d+", code))


def test_the_code_runs():
    class Item(SimpleNamespace):
        def __getattr__(self, name):
            return self.number

    rng = _rng()
    for _ in range(300):
        _, code = world.code_pair(rng)
        scope = {}
        exec(code, scope)
        (function,) = (value for value in scope.values() if callable(value))
        one = function.__name__.startswith("describe")
        function(Item(number=3) if one else [Item(number=3), Item(number=1)])


def test_a_description_of_sorting_is_paired_with_code_that_sorts():
    rng = _rng()
    pairs = (world.code_pair(rng) for _ in range(1000))
    query, code = next(pair for pair in pairs if pair[0].endswith("in descending order"))
    scope = {}
    exec(code, scope)
    field = query.split(" by ")[1].split()[0]
    items = [SimpleNamespace(**{field: number}) for number in (1, 3, 2)]
    (function,) = (value for value in scope.values() if callable(value))
    assert [getattr(item, field) for item in function(items)] == [3, 2, 1]


@pytest.mark.parametrize("pair", [world.text_pair, world.paraphrase_pair, world.code_pair])
def test_pairs_seldom_repeat(pair):
    rng = _rng()
    assert len({pair(rng) for _ in range(1000)}) >= 990


def test_graded_sentences_share_as_many_facts_as_their_score_says():
    rng = _rng()
    seen = Counter()
    for _ in range(200):
        first, second, share = world.graded_pair(rng)
        facts = set(words.content_words(first)), set(words.content_words(second))
        common = len(facts[0] & facts[1]) / len(facts[0] | facts[1])
        assert (common == 1) == (share == 1), (first, second)
        assert common > 0 or share == 0
        seen[share] += 1
    assert len(seen) > 5
