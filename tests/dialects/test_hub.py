"""What the nouns themselves can do."""

from itertools import product

from fastgw.call import Usage
from fastgw.dialects.hub import merge_usage


def test_of_each_count_the_last_word_that_says_anything_counts():
    for old, new in product(product((0, 1, 5), repeat=5), product((0, 2), repeat=5)):
        expected = Usage(*[later or earlier for earlier, later in zip(old, new, strict=True)])
        assert merge_usage(Usage(*old), Usage(*new)) == expected


def test_the_first_word_stands():
    assert merge_usage(None, Usage(3, 0, 1)) == Usage(3, 0, 1)
