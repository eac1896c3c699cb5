"""Which pictures an evaluation makes: pure in (data set, seed, index)."""

import pytest

from dnnlib.errors import UserError
from metrics.pictures.image_sets import caption_pool, image_set


class Captions:
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def captions(self, index):
        return [f"{index}a", f"{index}b", f"{index}c"]


def test_a_smaller_number_is_the_beginning_of_a_larger_one():
    few, many = (image_set(Captions(10), num_images=n, seed=0) for n in (7, 35))
    assert (
        few.items == many.items[:7]
        and few.prompts == many.prompts[:7]
        and few.seeds == many.seeds[:7]
    )


def test_every_item_comes_once_a_round_with_its_own_captions():
    chosen = image_set(Captions(10), num_images=30, seed=0)
    assert all(sorted(chosen.items[k : k + 10]) == list(range(10)) for k in (0, 10, 20))
    pairs = zip(chosen.prompts, chosen.items, strict=True)
    assert all(prompt[:-1] == str(item) for prompt, item in pairs)
    assert {prompt[-1] for prompt in chosen.prompts} == set("abc")
    assert len(set(chosen.seeds)) == 30 and chosen.items[:10] != tuple(range(10))


def test_seed_blocks_differ():
    a, b = (image_set(Captions(10), num_images=10, seed=s) for s in (0, 1))
    assert a.items != b.items and not set(a.seeds) & set(b.seeds)
    assert caption_pool(Captions(10), seed=0) != caption_pool(Captions(10), seed=1)


def test_pool_has_one_caption_an_item_in_order():
    assert [caption[:-1] for caption in caption_pool(Captions(5), seed=0)] == list("01234")


def test_an_empty_split_is_named():
    with pytest.raises(UserError, match="no pictures"):
        image_set(Captions(0), num_images=4, seed=0)
