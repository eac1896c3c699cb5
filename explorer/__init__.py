"""The explorer: a server that shows the pictures of a generator as a map without edges.

explore.py starts it. `server` answers HTTP, `worker` holds the queue, `painter` computes, `page/`
holds the files of the page. `static_page` writes the page as a folder in which the browser draws,
with the files of `alone/`.
"""
