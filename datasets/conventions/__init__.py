"""Ways in which people keep captions with a folder of pictures, a reader each.

`CONVENTIONS` is in order of preference: where a folder has two of them, the first one is taken and
the report names those that are left.
"""

from __future__ import annotations

from datasets.conventions.base import Convention
from datasets.conventions.beside import BESIDE
from datasets.conventions.flickr import FLICKR
from datasets.conventions.own_lines import OWN_LINES
from datasets.conventions.tables import CAPTION_TABLES, IMAGEFOLDERS

CONVENTIONS: tuple[Convention, ...] = (OWN_LINES, *IMAGEFOLDERS, *CAPTION_TABLES, *FLICKR, *BESIDE)
