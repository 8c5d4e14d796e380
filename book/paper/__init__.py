"""The book on paper and on readers without a network: a PDF and an EPUB of each edition.

`python -m book.paper pdf epub` writes the chapters of each language once more as Sphinx's sources (`sources`), in the
form that a page has which cannot be folded, lets Sphinx make one page or an EPUB of them (`conf`, with the extensions
`forms` and `mathml`), and prints the one page in a browser without a window (`printing`).
"""
