#!/bin/sh
# Refreshes what the project vendors from npm: what the site needs, so that a reader's browser asks nobody but the site
# itself, the font of the figures, and what the tests look for barriers with. Run by maintainers only (it needs npm, and
# the book's environment for fonttools, which comes with matplotlib); the results are committed. Versions stand here and
# nowhere else.
set -eu

MATHJAX=mathjax@3.2.2                                  # Apache-2.0
REVEAL=reveal.js@6.0.2                                 # MIT
SERIF=@fontsource-variable/source-serif-4@5.3.1        # SIL Open Font License 1.1
SANS=@expo-google-fonts/noto-sans-sc@0.4.3             # SIL Open Font License 1.1
JAX=@jax-js/jax@0.1.25                                 # MIT; gradients and compiled kernels for the lab's training
D3="d3-scale@4.0.2 d3-shape@3.2.0 d3-contour@4.0.2"    # ISC; scales, lines and level lines of the lab's charts
FFLATE=fflate@0.8.2                                    # MIT; the zip file of a model that was trained in the page
ESBUILD=esbuild@0.25.12                                # MIT; bundles the two above, is not shipped
AXE=axe-core@4.14.1                                    # MPL-2.0; the tests' own, no part of the site

static=$(cd "$(dirname "$0")/_static" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

unpack() {  # unpack PACKAGE FOLDER: fetch one npm package into ./FOLDER
    mkdir "$2" && tar -xzf "$(npm pack --silent "$1")" -C "$2" --strip-components=1
}

unpack "$MATHJAX" mathjax
rm -rf "$static/mathjax"
mkdir -p "$static/mathjax/output/chtml/fonts"
cp mathjax/LICENSE "$static/mathjax/"
# Its components in one file, in the order in which they build on each other: what tex-chtml.js has, without the menu,
# which is two fifths of it. It starts once the whole file is read.
(cd mathjax/es5 && cat startup.js core.js input/tex.js output/chtml.js output/chtml/fonts/tex.js a11y/assistive-mml.js) \
    > "$static/mathjax/mathjax.js"
cp -R mathjax/es5/output/chtml/fonts/woff-v2 "$static/mathjax/output/chtml/fonts/"

# The slides: without its themes and plug-ins.
unpack "$REVEAL" reveal
rm -rf "$static/reveal"
mkdir -p "$static/reveal"
cp reveal/LICENSE reveal/dist/reveal.js reveal/dist/reveal.css "$static/reveal/"

unpack "$SERIF" serif
rm -rf "$static/fonts"
mkdir -p "$static/fonts"
cp serif/LICENSE "$static/fonts/"
cp serif/files/source-serif-4-latin-wght-normal.woff2 serif/files/source-serif-4-latin-wght-italic.woff2 "$static/fonts/"

# The figures' font: letters, signs, and the 3,755 everyday characters of GB 2312, with those of the book beside them.
unpack "$SANS" sans
"$root/.venv/bin/python" - "$root" > signs.txt <<'SIGNS'
import itertools, sys
from pathlib import Path

ranges = (0x20, 0x24F), (0x370, 0x3FF), (0x2000, 0x22FF), (0x2460, 0x247F), (0x25A0, 0x26FF)
signs = {chr(code) for low, high in ranges for code in range(low, high + 1)}
for pair in itertools.product((*range(0xA1, 0xA4), *range(0xB0, 0xD8)), range(0xA1, 0xFF)):
    signs |= set(bytes(pair).decode("gb2312", errors="ignore"))
root = Path(sys.argv[1])
for path in [*root.glob("chapters/*.py"), *root.glob("book/pages/*.md")]:
    signs |= set(path.read_text(encoding="utf-8"))
print("".join(sorted(signs)))
SIGNS
mkdir -p "$root/dpo_core/fonts"
cp sans/LICENSE_FONT "$root/dpo_core/fonts/LICENSE"
"$root/.venv/bin/pyftsubset" sans/400Regular/NotoSansSC_400Regular.ttf --text-file=signs.txt --layout-features=kern \
    --no-hinting --output-file="$root/dpo_core/fonts/NotoSansSC-Regular.ttf"

# The lab's libraries, each as one bundle; jax loads the part of a device when it is started.
vendor="$root/book/lab/vendor"
rm -rf "$vendor"
mkdir -p "$vendor"
npm install --silent --no-fund --no-audit --prefix lab "$ESBUILD" "$JAX" "$FFLATE" $D3
cat > lab/d3.js <<'D3'
export { scaleLinear, scaleLog } from "d3-scale";
export { area, line } from "d3-shape";
export { contours } from "d3-contour";
D3
lab/node_modules/.bin/esbuild lab/node_modules/@jax-js/jax/dist/index.js --bundle --splitting --format=esm --minify \
    --legal-comments=none --chunk-names='[name]-[hash]' --outdir="$vendor/jax" --log-level=warning
lab/node_modules/.bin/esbuild lab/d3.js --bundle --format=iife --global-name=d3 --minify --outfile="$vendor/d3.js" --log-level=warning
echo 'export { zipSync } from "fflate";' > lab/zip.js
lab/node_modules/.bin/esbuild lab/zip.js --bundle --format=esm --minify --outfile="$vendor/fflate.js" --log-level=warning
cp lab/node_modules/@jax-js/jax/LICENSE "$vendor/jax/LICENSE"
cp lab/node_modules/fflate/LICENSE "$vendor/fflate.LICENSE"
for package in lab/node_modules/d3-* lab/node_modules/internmap; do
    printf '%s\n\n' "$(basename "$package")"; cat "$package/LICENSE"; echo
done > "$vendor/d3.LICENSE"

unpack "$AXE" axe
mkdir -p "$root/tests/axe"
cp axe/LICENSE axe/axe.min.js "$root/tests/axe/"

printf '%s\n' "$MATHJAX" "$REVEAL" "$SERIF" "$SANS" "$JAX" "$FFLATE" $D3 "$AXE" > "$static/VENDORED"
