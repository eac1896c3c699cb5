"""Make folders of pictures and captions as users have them, and import them."""

import json

from datasets.folder import Captions, folder_pictures
from datasets.report import Report
from tests.datasets.conftest import picture


def fill(folder, **files):
    """Write a text, bytes or (for None) a picture by name; `__` in a name stands for a dot."""
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            picture(path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8", newline="")
    return folder


def pictures(folder, *names):
    return fill(folder, **dict.fromkeys(names))


def read(folder, *, test_share=0.0, follow_links=False, **options):
    """Import a folder and return (captions and split by id, report)."""
    report = Report()
    raws = folder_pictures(
        folder, report, test_share, follow_links=follow_links, captions=Captions(**options)
    )
    return {raw.id: (list(raw.captions), raw.split) for raw in raws}, report


def lines(*records):
    return "\n".join(
        record if isinstance(record, str) else json.dumps(record) for record in records
    )
