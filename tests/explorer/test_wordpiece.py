"""The tokenizer of the page without a server, in a real browser: the same numbers as MiniLM's."""

from __future__ import annotations

from pathlib import Path

import pytest

from networks.text_encoders.minilm import MiniLMTokenizer, minilm_folder
from tests.explorer.chromium import MARKS, served

pytestmark = MARKS
ALONE = Path(__file__).parents[2] / "explorer" / "alone"
CAPTIONS = [
    "a red apple",
    "",
    "This flower has PETALS that are purple, and it's yellow-ish (in the centre)!",
    "  two   blanks\tand a tab ",
    "caf\u00e9 cr\u00e8me br\u00fbl\u00e9e, na\u00efve \u00c5ngstr\u00f6m",
    "\u201ccurled\u201d quotes and the flower\u2019s stem",
    "\u82b1 a flower \u7ea2\u8272\u7684\u82b1 \u3072\u307e\u308f\u308a",
    "\U0001f33b sunflower \U0001f339",
    "antidisestablishmentarianism unbelievablypolkadotted",
    "x" * 101 + " and a long word",
    "price: $5 + 3% = ~8^2 <b>bold</b> | a_b `c` 3.14",
    "zero\u200bwidth soft\u00adhyphen",
    "word " * 90,
]


@pytest.fixture(scope="module")
def found(browser, tmp_path_factory):
    """What the browser makes of all captions."""
    folder = tmp_path_factory.mktemp("wordpiece")
    (folder / "wordpiece.js").write_bytes((ALONE / "wordpiece.js").read_bytes())
    (folder / "vocab.txt").write_bytes((minilm_folder() / "vocab.txt").read_bytes())
    with served(folder) as address:
        browser.get(address)
        return browser.execute_async_script(
            "const [address, captions, done] = arguments;"
            "Promise.all([import(`${address}wordpiece.js`), fetch(`${address}vocab.txt`)])"
            ".then(async ([{ tokenize, readVocabulary }, file]) => {"
            "  const vocabulary = readVocabulary(await file.text());"
            "  return captions.map((caption) => tokenize(caption, vocabulary, 77)); })"
            ".then(done, (error) => done(String(error)));",
            address,
            CAPTIONS,
        )


@pytest.mark.parametrize("number", range(len(CAPTIONS)))
def test_the_numbers_are_those_of_the_encoder(found, number):
    expected = [one for one in MiniLMTokenizer()([CAPTIONS[number]])[0].tolist() if one]
    assert found[number]["ids"] == expected
    assert found[number]["cut"] == CAPTIONS[number].startswith("word ")
