"""Settings of the network: what a file may state, and how it is refused."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from backsight_features.errors import BadInput
from backsight_model import treatments
from backsight_model.settings import Settings, read
from backsight_model.treatments import DECLARED, Treatment

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


def test_the_examples_state_what_they_say() -> None:
    stated = read(EXAMPLES / "settings.toml")
    assert (stated.layers, stated.attention, stated.instance_norm, stated.members) == (2, True, True, 3)
    assert stated.units == Settings().units, "what is left out is as usual"
    assert treatments.of("news_count_24h", stated.treatments) == Treatment(kind="rank", mask=True)
    assert treatments.of("cpiaucsl_age_d", stated.treatments) == Treatment(kind="log", tail=0.0)
    assert treatments.of("ret_log_1h", stated.treatments) == Treatment()
    assert json.loads(json.dumps(asdict(stated)))["treatments"][0][1]["kind"] == "rank", "a bundle can hold it"
    assert read(EXAMPLES / "next-bar.toml") == Settings(stride=1, learning_rate=5e-3, epochs=20, patience=6)


def test_an_empty_file_states_what_is_usual(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").touch()
    assert read(tmp_path / "empty.toml") == Settings(treatments=DECLARED)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layers = 3", "layers is 3, it must be 1 or 2"),
        ("unit = 8", "unit is no setting; there are projection, layers, units"),
        ("units = 8.5", "units is 8.5, it must be of type int"),
        ("units = 0", "units is 0, it must be at least 1"),
        ("members = true", "members is True, it must be of type int"),
        ("attention = 1", "attention is 1, it must be of type bool"),
        ("newest = 'all'", "newest is 'all', it must be of type int"),
        ("dropout = 1", "dropout is 1, it must be at least 0 and below 1"),
        ("learning_rate = nan", "learning_rate is nan, it must be at least 0 and finite"),
        ("treatments = 1", "treatments is 1, it must be a table of patterns"),
        ("treatments.'*' = 'log'", "the treatment of '*' is 'log', it must be a table"),
        ("treatments.'*' = { kind = 'minmax' }", "a treatment is of kind 'minmax', it must be one of standard, robust"),
        ("treatments.'*' = { clip = 0.1 }", "clip is no property of the treatment of '*'; there are kind, tail, mask"),
        ("treatments.'*' = { mask = 'yes' }", "mask is 'yes', it must be of type bool"),
        ("layers = ", "Invalid value"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "some.toml").write_text(text)
    with pytest.raises(BadInput) as raised:
        read(tmp_path / "some.toml")
    assert said in str(raised.value)
    assert str(raised.value).startswith(f"settings {tmp_path / 'some.toml'}: ")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"settings .*none\.toml: .*No such file"):
        read(tmp_path / "none.toml")


def test_a_pattern_has_to_fit_some_feature() -> None:
    with pytest.raises(BadInput, match=r"declared for 'new_\*', which is none of the 2 features"):
        treatments.refuse_idle((("new_*", Treatment()), *DECLARED), ("news_count_24h", "ret_log_1h"))
