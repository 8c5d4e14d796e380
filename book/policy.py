"""The content security policy of the site: what a page may load and run, written into each page once it is built.

It stands in the pages themselves because a static host sends no headers of ours.
"""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

# 'self' holds for pages opened as files too. Styles may be inline because MathJax writes its own; a search result
# fetches the page that it quotes.
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",  # and the inline scripts that Sphinx and its theme write, each by its hash
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self'",
    "font-src": "'self'",
    "connect-src": "'self'",
    "worker-src": "'self'",  # the lab's; what it compiles is under its own policy, not the page's
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}
CHARSET = re.compile(r'<meta charset="utf-8" ?/?>')


class InlineScripts(HTMLParser):
    """Collects in `found` the texts of the scripts that stand in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script" and "src" not in dict(attrs):
            self.inside = True
            self.found.append("")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "script"


def protect(html: Path) -> None:
    """Write the policy into every page below `html`, in front of all that it governs."""
    for path in html.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        meta = f'<meta http-equiv="Content-Security-Policy" content="{policy(page)}">'
        page, places = CHARSET.subn(lambda match, meta=meta: f"{match[0]}\n    {meta}", page)
        if places != 1:
            raise ValueError(f"{path}: {places} places for the content security policy")
        path.write_text(page, encoding="utf-8")


def policy(page: str) -> str:
    """The policy of one page: the site's, and the hashes of the scripts that stand in it."""
    hashes = {f"'sha256-{digest(script)}'" for script in InlineScripts(page).found}
    allowed = POLICY | {"script-src": " ".join([POLICY["script-src"], *sorted(hashes)])}
    return "; ".join(f"{directive} {sources}" for directive, sources in allowed.items())


def digest(script: str) -> str:
    """The hash by which a policy names an inline script."""
    return b64encode(sha256(script.encode()).digest()).decode()
