#!/bin/sh
# Refreshes what the site vendors from npm, so that a reader's browser asks nobody but the site itself.
# Run by maintainers only (it needs npm); the results are committed. Versions stand here and nowhere else.
set -eu

MATHJAX=mathjax@3.2.2                                  # Apache-2.0
SERIF=@fontsource-variable/source-serif-4@5.3.1        # SIL Open Font License 1.1

static=$(cd "$(dirname "$0")/_static" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

unpack() {  # unpack PACKAGE FOLDER: fetch one npm package into ./FOLDER
    mkdir "$2" && tar -xzf "$(npm pack --silent "$1")" -C "$2" --strip-components=1
}

unpack "$MATHJAX" mathjax
rm -rf "$static/mathjax"
mkdir -p "$static/mathjax/output/chtml/fonts"
cp mathjax/LICENSE mathjax/es5/tex-chtml.js "$static/mathjax/"
cp -R mathjax/es5/output/chtml/fonts/woff-v2 "$static/mathjax/output/chtml/fonts/"

unpack "$SERIF" serif
rm -rf "$static/fonts"
mkdir -p "$static/fonts"
cp serif/LICENSE "$static/fonts/"
cp serif/files/source-serif-4-latin-wght-normal.woff2 serif/files/source-serif-4-latin-wght-italic.woff2 "$static/fonts/"

printf '%s\n' "$MATHJAX" "$SERIF" > "$static/VENDORED"
