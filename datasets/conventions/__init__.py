"""Readers of the usual forms in which captions lie with a folder of pictures.

`CONVENTIONS` is sorted by preference. If a folder has captions in several forms, the first form is
read and the report names the others.
"""

from __future__ import annotations

from datasets.conventions.base import Convention
from datasets.conventions.captions_jsonl import CAPTIONS_JSONL
from datasets.conventions.flickr import FLICKR
from datasets.conventions.sidecars import SIDECARS
from datasets.conventions.tables import CAPTION_TABLES, IMAGEFOLDERS

CONVENTIONS: tuple[Convention, ...] = (
    CAPTIONS_JSONL,
    *IMAGEFOLDERS,
    *CAPTION_TABLES,
    *FLICKR,
    *SIDECARS,
)
