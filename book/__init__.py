"""How the chapters become a site: two editions, English and Chinese, from the same notebooks.

`python -m book.build` selects the cells of each language (`languages`), writes a source tree for each
edition (`sources`), runs Sphinx on both (`conf`, with the extensions `forms`, `search` and
`page_context`), makes the slides of each chapter (`slides`), and writes into each page what it may
load (`policy`).
"""
