"""The cells of a chapter that conclude from stored runs, run on these runs or on changed ones."""

import json

import matplotlib

import sources

DATA = sources.CHAPTERS / "data"


def conclude(chapter, files, lines, monkeypatch, folder, change=lambda files: None):
    """Run the cells in which these lines stand, each in one, on the chapter's stored files, changed.

    Args:
        files: the names in chapters/data, without .json.
        folder: an empty one, which becomes the working directory.
        change: is handed the files' contents by name, and changes them in place.
    """
    matplotlib.use("Agg")
    contents = {name: json.loads((DATA / f"{name}.json").read_text("utf-8")) for name in files}
    change(contents)
    (folder / "data").mkdir()
    for name, content in contents.items():
        (folder / "data" / f"{name}.json").write_text(json.dumps(content), "utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(sources.CHAPTERS))
    code = [cell.source for cell in sources.cells(chapter) if cell.kind == "code"]
    namespace: dict = {}
    for line in lines:
        (source,) = [source for source in code if line in source]
        exec(compile(source, line, "exec"), namespace)
