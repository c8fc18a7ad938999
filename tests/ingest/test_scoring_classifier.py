"""A classifier from a local folder: the same score alone and in a crowd, labels by name, content as revision."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from backsight_features.errors import BadInput
from backsight_ingest.scoring import checksums
from backsight_ingest.scoring.classifier import OnnxClassifier
from backsight_ingest.scoring.models import from_folder


@pytest.fixture
def scorer(tmp_path: Path, tiny_model) -> OnnxClassifier:
    return from_folder(tiny_model.write(tmp_path / "tiny"), cache=tmp_path / "cache")


def test_labels_are_told_by_name(scorer: OnnxClassifier, tiny_model) -> None:
    found = scorer.score(["up", "down down", "flat up"])
    expected = [tiny_model.expected(1, 0, 0), tiny_model.expected(0, 2, 0), tiny_model.expected(1, 0, 1)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_long_sentence_is_read_to_its_end_in_pieces(scorer: OnnxClassifier, tiny_model) -> None:
    # 62 tokens and the two around them make a piece.
    found = scorer.score([" ".join(["up"] * 62 + ["down"] * 31)])
    expected = np.average([tiny_model.expected(62, 0, 0), tiny_model.expected(0, 31, 0)], axis=0, weights=[2, 1])
    np.testing.assert_allclose(found, [expected], atol=1e-6)


def test_alone_and_in_a_crowd_are_the_same(scorer: OnnxClassifier) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["up", "down", "flat.", "else"], size=n)) for n in rng.integers(1, 90, size=200)]
    together = scorer.score(texts)
    np.testing.assert_array_equal(together, np.concatenate([scorer.score([text]) for text in texts]))
    np.testing.assert_array_equal(together[::-1], scorer.score(texts[::-1]))


def test_no_text_is_no_row(scorer: OnnxClassifier) -> None:
    assert scorer.score([]).shape == (0, 3)


def test_the_revision_is_the_content(tmp_path: Path, scorer: OnnxClassifier) -> None:
    assert scorer.name == "tiny"
    again = tmp_path / "elsewhere" / "tiny"
    shutil.copytree(tmp_path / "tiny", again)
    assert from_folder(again, cache=tmp_path / "cache").revision == scorer.revision
    with (again / "vocab.txt").open("a") as vocabulary:
        vocabulary.write("more\n")
    assert from_folder(again, cache=tmp_path / "cache").revision != scorer.revision


def test_a_graph_in_the_folder_onnx_is_found(tmp_path: Path, tiny_model) -> None:
    folder = tiny_model.write(tmp_path / "tiny", where="onnx/model.onnx")
    np.testing.assert_allclose(
        from_folder(folder, cache=tmp_path).score(["up"]), [tiny_model.expected(1, 0, 0)], atol=1e-6
    )


def test_scores_that_depend_on_the_batch_are_refused(tmp_path: Path, tiny_model) -> None:
    folder = tiny_model.write(tmp_path / "tiny")
    tiny_model.write_onnx(folder / "model.onnx", neighbourly=True)
    with pytest.raises(BadInput, match=r"changes by .* with what else is in its batch"):
        from_folder(folder, cache=tmp_path)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (("config.json",), "has no config.json"),
        (("vocab.txt", "tokenizer_config.json"), "has no tokenizer"),
        (("model.onnx",), "has no weights"),
    ],
)
def test_a_folder_says_what_it_lacks(tmp_path: Path, gone: tuple[str, ...], message: str, tiny_model) -> None:
    folder = tiny_model.write(tmp_path / "tiny")
    for name in gone:
        (folder / name).unlink()
    with pytest.raises(BadInput, match=message):
        from_folder(folder, cache=tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no folder"):
        from_folder(tmp_path / "nowhere", cache=tmp_path)


def test_labels_without_meaning_are_refused(tmp_path: Path, tiny_model) -> None:
    folder = tiny_model.write(tmp_path / "tiny", labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    with pytest.raises(BadInput, match="LABEL_0"):
        from_folder(folder, cache=tmp_path)


@pytest.mark.parametrize(("name", "content"), [("config.json", "{"), ("config.json", "[]"), ("model.onnx", "no graph")])
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: str, tiny_model) -> None:
    folder = tiny_model.write(tmp_path / "tiny")
    (folder / name).write_text(content)
    with pytest.raises(BadInput, match=name):
        from_folder(folder, cache=tmp_path)


def test_a_changed_file_is_named(tmp_path: Path, tiny_model) -> None:
    folder = tiny_model.write(tmp_path / "tiny")
    files = {path.name for path in folder.iterdir()}
    checksums.write(checksums.sums(folder, files), folder / checksums.MANIFEST)
    from_folder(folder, cache=tmp_path)
    with (folder / "vocab.txt").open("a") as vocabulary:
        vocabulary.write("more\n")
    with pytest.raises(BadInput, match=r"vocab.txt has SHA-256 \w+, and .*SHA256SUMS says \w+: the file was changed"):
        from_folder(folder, cache=tmp_path)
    checksums.write(checksums.sums(folder, files - {"model.onnx"}), folder / checksums.MANIFEST)
    with pytest.raises(BadInput, match=r"SHA256SUMS does not list model.onnx"):
        from_folder(folder, cache=tmp_path)


def test_a_pickle_in_a_folder_needs_a_pin(tmp_path: Path, tiny_model) -> None:
    folder = tiny_model.write(tmp_path / "tiny")
    (folder / "model.onnx").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match="pickle"):
        from_folder(folder, cache=tmp_path)
