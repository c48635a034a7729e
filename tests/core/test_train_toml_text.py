import tomllib

from polyvec.train.runs.toml_text import dumps


def test_what_is_written_is_read_back():
    content = {
        "model": 'a "quoted" C:\\path',
        "odd": "tab\t line\n delete \x7f é 😀 \x01",
        "numbers": [1, -2.5, 1e-5, True],
        "empty": [],
        "rows": [{"path": "a", "columns": {"query": "q"}}, {"path": "b"}],
        "loss": {"text": {"dense": 1.0}, "matryoshka_weights": {"128": 1.0, "a b": 2.0}},
        "nothing": {},
        "mixed": [{"a": 1}, 2],
    }
    assert tomllib.loads(dumps(content)) == content


def test_values_stand_above_tables():
    assert dumps({"batch": {"texts": 1}, "model": "demo"}) == 'model = "demo"\n\n[batch]\ntexts = 1\n'
