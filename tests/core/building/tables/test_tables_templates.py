import pytest

from polyvec.data.building.tables.templates import KINDS, PLACEHOLDERS, wordings


def test_ten_languages_have_all_templates_with_all_placeholders():
    words = wordings()  # it checks each
    assert set(words) == {"ar", "de", "en", "es", "fr", "hi", "hu", "ja", "ru", "zh"}
    assert all(set(row.templates) == set(PLACEHOLDERS) and row.labels for row in words.values())
    assert set(KINDS.values()) == {"question", "key phrase", "statement", "description", "instruction"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[en.templates]\nphrase = "{measure}"', "must have exactly {measure}, {subject}"),
        ('[en.templates]\nriddle = "{measure}"', "'riddle'; known names"),
        ('[xx.templates]\nphrase = "{measure} {subject}"', "lacks comparison"),
        ('[en.labels]\nrecord = "{n}"', "exactly {number}"),
        ("[en.templates]\nphrase = 3", "must be a text"),
        ('[en.templates]\nphrase = "{measure"', "expected '}'"),
        ("en = 3", "must have the tables"),
        ("[en", "no TOML"),
    ],
)
def test_what_is_wrong_in_a_users_file_is_named(tmp_path, text, message):
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        wordings(tmp_path / "own.toml")


def test_a_users_wording_replaces_one_and_leaves_the_others(tmp_path):
    (tmp_path / "own.toml").write_text('[en.templates]\nphrase = ["{measure}: {subject}"]\n')
    own, shipped = wordings(tmp_path / "own.toml")["en"], wordings()["en"]
    assert own.templates["phrase"] == ("{measure}: {subject}",)
    assert own.templates["lookup"] == shipped.templates["lookup"]
