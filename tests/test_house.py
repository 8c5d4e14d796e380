"""The house is in order: one list of dependencies, commands that exist, arrows that point one way, nothing unsafe.

A check is a function that returns the faults it finds; each is held against the project, where it must find none,
and against something broken, where it must find one.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from dpo_core.commands.parser import make_parser

ROOT = Path(__file__).resolve().parent.parent
READMES = ("README.md", "README.zh.md")
MODULES = sorted((ROOT / "dpo_core").glob("**/*.py"))
TOP = {  # DESIGN: these folders, and beside them only the files that tools and readers look for
    *("chapters", "dpo_core", "book", "tests", "environment.yml"),
    *("README.md", "README.zh.md", "pyproject.toml", "requirements.lock", "Makefile"),
    *("LICENSE", "LICENSE-TEXT", "CITATION.cff", "CONTRIBUTING.md"),
}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads(read("pyproject.toml"))


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """Paths under version control, and new ones that git does not ignore."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    run = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        pytest.skip("not a git checkout")
    return [path for path in run.stdout.split("\0") if path and (ROOT / path).exists()]


# ---------------------------------------------------------------- one list of dependencies


def direct_requirements(project: dict) -> list[Requirement]:
    groups = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
    ]
    return [Requirement(text) for group in groups for text in group]


def pins(lock: str) -> dict[str, str]:
    """Package -> version. Raises ValueError for a line that is not one exact pin."""
    found: dict[str, str] = {}
    for line in lock.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        requirement = Requirement(line.split(" #")[0])
        name, specifiers = canonicalize_name(requirement.name), list(requirement.specifier)
        if (
            len(specifiers) != 1
            or specifiers[0].operator != "=="
            or requirement.url
            or name in found
        ):
            raise ValueError(f"not one exact pin: {line}")
        found[name] = specifiers[0].version
    return found


def lock_faults(requirements: list[Requirement], lock: str) -> list[str]:
    pinned = pins(lock)
    faults = [
        f"{name} is left to torch" for name in pinned if re.match("nvidia-|cuda-|triton", name)
    ]
    if "://" in lock or str(ROOT) in lock:
        faults.append("the lock names an address or a path")
    for requirement in requirements:
        version = pinned.get(canonicalize_name(requirement.name))
        if version is None:
            faults.append(f"{requirement.name} is not in the lock")
        elif not requirement.specifier.contains(version):
            faults.append(f"{requirement} does not admit the locked {version}")
    return faults


def test_the_lock_pins_every_dependency_within_its_range(project):
    """Guards against a range edited without `make lock`."""
    assert lock_faults(direct_requirements(project), read("requirements.lock")) == []


@pytest.mark.parametrize(
    "lock", ["", "numpy==1.26.4", "numpy==2.1\ntriton==3.0", "numpy==2.1 # https://x"]
)
def test_a_lock_that_disagrees_is_found(lock):
    assert lock_faults([Requirement("numpy>=2")], lock)


@pytest.mark.parametrize("line", ["numpy>=2", "numpy==2.1,<3", "numpy", "numpy @ https://x/y.whl"])
def test_a_line_that_is_no_pin_is_found(line):
    with pytest.raises(ValueError):
        pins(line)


def test_the_lock_holds_the_torch_that_made_the_outputs(project):
    constraint = Requirement(project["tool"]["uv"]["constraint-dependencies"][0])
    assert (constraint.name, str(constraint.specifier)) == (
        "torch",
        f"=={pins(read('requirements.lock'))['torch']}",
    )


def undeclared(sources: dict[str, str], requirements: list[Requirement]) -> set[str]:
    """Modules that the sources (path -> text) import from packages that no requirement names."""
    own = {Path(path).stem for path in sources} | {
        part for path in sources for part in Path(path).parts[:-1]
    }
    modules = {name.split(".")[0] for text in sources.values() for name in imports(text)} - own
    declared = {canonicalize_name(requirement.name) for requirement in requirements}
    packages = packages_distributions()
    return {
        module
        for module in modules - sys.stdlib_module_names
        if not declared & {canonicalize_name(package) for package in packages.get(module, [])}
    }


def test_what_is_imported_is_declared(project, tracked):
    """Guards against an import that works only because some other package brought it along."""
    sources = {path: read(path) for path in tracked if path.endswith(".py")}
    assert undeclared(sources, direct_requirements(project)) == set()


def test_the_library_needs_its_own_dependencies_alone(project):
    """Guards against a library that fails where the book's tools are missing; plotting.py is for chapters."""
    sources = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in MODULES}
    del sources["dpo_core/plotting.py"]
    assert (
        undeclared(sources, [Requirement(text) for text in project["project"]["dependencies"]])
        == set()
    )


def test_an_undeclared_import_is_found():
    sources = {"a/b.py": "import numpy, json\nfrom a import c\nfrom yaml import load", "a/c.py": ""}
    assert undeclared(sources, [Requirement("numpy")]) == {"yaml"}


def conda_faults(environment: dict, project: dict) -> list[str]:
    """conda gives Python and pip; pip gives all the rest, from the lock. Mixed binaries break numpy."""
    faults = []
    if environment["name"] != project["project"]["name"]:
        faults.append("another name than the project's")
    if environment["channels"] != ["conda-forge"]:
        faults.append("another channel than conda-forge")
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    matches = [re.fullmatch(r"([a-z0-9_-]+)\s*(?:=\s*([0-9.]+))?", entry) for entry in conda]
    packages = {match[1]: match[2] for match in matches if match}
    if set(packages) != {"python", "pip"} or not all(matches):
        faults.append("conda installs something else than Python and pip")
    elif not SpecifierSet(project["project"]["requires-python"]).contains(
        Version(packages["python"] or "0")
    ):
        faults.append("a Python that pyproject.toml does not admit")
    rest = [entry for entry in environment["dependencies"] if not isinstance(entry, str)]
    if rest != [{"pip": ["-r requirements.lock", "-e ."]}]:
        faults.append("pip does not install exactly the lock and this checkout")
    return faults


def test_the_conda_environment_is_python_and_the_lock(project):
    """Guards against the seed's numpy error: numpy from conda under torch from pip."""
    assert conda_faults(yaml.safe_load(read("environment.yml")), project) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: dpo-from-zero", "name: dpo"),
        ("- conda-forge", "- defaults"),
        ("  - pip\n", "  - pip\n  - numpy\n"),
        ("  - pip\n", "  - pip\n  - numpy>=2\n"),
        ("python=3.11", "python=3.10"),
        ("-r requirements.lock", "-r requirements.txt"),
        ("      - -e .\n", "      - -e .\n      - numpy<2\n"),
    ],
)
def test_a_conda_environment_that_disagrees_is_found(old, new, project):
    text = read("environment.yml")
    assert old in text
    assert conda_faults(yaml.safe_load(text.replace(old, new)), project)


def test_one_lowest_python_everywhere(project):
    assert project["project"]["requires-python"] == ">=3.11"
    assert project["tool"]["ruff"]["target-version"] == "py311"
    assert "sys.version_info < (3, 11)" in read("Makefile")
    assert "--python-version 3.11" in read("Makefile")


def test_the_citation_names_this_version(project):
    assert yaml.safe_load(read("CITATION.cff"))["version"] == project["project"]["version"]


# ---------------------------------------------------------------- commands


def targets(makefile: str) -> set[str]:
    """The targets that `make help` lists."""
    return set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))


def code_of(markdown: str) -> str:
    """What stands in fences and in backticks."""
    fences = re.findall(r"^```\w*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    return "\n".join(fences + re.findall(r"`([^`\n]+)`", markdown))


def unknown_targets(markdown: str, makefile: str) -> set[str]:
    return set(re.findall(r"\bmake ([a-z-]+)", code_of(markdown))) - targets(makefile)


@pytest.mark.parametrize("name", [*READMES, "CONTRIBUTING.md"])
def test_every_make_target_that_a_page_names_exists(name):
    assert unknown_targets(read(name), read("Makefile")) == set()


def test_a_target_that_does_not_exist_is_found():
    assert unknown_targets("run `make mobi`", read("Makefile")) == {"mobi"}


def test_make_lists_all_its_targets():
    phony = re.search(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)[1].split()
    assert (
        set(phony)
        == targets(read("Makefile"))
        >= {"book", "serve", "test", "test-slow", "chapters", "models"}
    )


def dpo_core_commands(markdown: str) -> list[list[str]]:
    lines = [line.split("#")[0].split() for line in code_of(markdown).splitlines()]
    return [words[1:] for words in lines if words[:1] == ["dpo-core"] and "COMMAND" not in words]


@pytest.mark.parametrize("name", READMES)
def test_the_parser_accepts_every_command_that_a_readme_shows(name):
    """Guards against an option renamed in the code and not in the text."""
    commands = dpo_core_commands(read(name))
    assert {"train-gen", "train-dpo", "generate", "evaluate"} <= {
        command[0] for command in commands
    }
    for command in commands:
        make_parser().parse_args(command)


def test_an_option_that_does_not_exist_is_found():
    with pytest.raises(SystemExit):
        make_parser().parse_args(dpo_core_commands("`dpo-core evaluate dpo --jsonl`")[0])


def workflow_faults(workflow: str, makefile: str) -> list[str]:
    """The workflow runs in conda's environment what the Makefile runs in .venv."""
    faults = []
    jobs = yaml.safe_load(workflow)["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    runs = [step.get("run", "") for step in steps]
    inputs = [item for step in steps for item in step.get("with", {}).items()]
    for command in re.findall(
        r"^\t@\$\(BIN\)/(python -m (?:pytest|book\.build).*)$", makefile, re.MULTILINE
    ):
        if "-m slow" in command:
            continue
        command = (
            command.replace("$(WORKERS)", "2").replace(" $(ARGS)", "").replace(" >/dev/null", "")
        )
        if command not in runs:
            faults.append(f"the workflow does not run: {command}")
    site = re.search(r"^SITE +:= (.*)$", makefile, re.MULTILINE)[1]
    expected = {
        "environment-file": "environment.yml",
        "activate-environment": "dpo-from-zero",
        "path": site,
    }
    for key, value in expected.items():
        if {given for name, given in inputs if name == key} != {value}:
            faults.append(f"{key} is not {value}, in every job that has it")
    if waits := jobs.keys() - {"publish", *jobs["publish"]["needs"]}:
        faults.append(f"the book is published without waiting for {min(waits)}")
    return faults


def test_the_workflow_runs_what_make_runs():
    assert workflow_faults(read(".github/workflows/book.yml"), read("Makefile")) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("environment-file: environment.yml", "environment-file: env.yml"),
        ("python -m pytest -n 2 --dist loadfile", "python -m pytest tests"),
        ("--nbval-lax --as-a-reader chapters", "--nbval-lax chapters"),
        ("needs: [test, reader]", "needs: [test]"),
        ("python -m book.build", "make html"),
        ("path: book/_build/html", "path: site"),
    ],
)
def test_a_workflow_that_disagrees_is_found(old, new):
    text = read(".github/workflows/book.yml")
    assert old in text
    assert workflow_faults(text.replace(old, new), read("Makefile"))


# ---------------------------------------------------------------- the two READMEs


def commands_of(markdown: str) -> list[str]:
    """The lines of the fenced blocks, without comments."""
    fences = re.findall(r"^```\w*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    return [line.split(" #")[0].rstrip() for fence in fences for line in fence.splitlines()]


def test_both_readmes_show_the_same_commands_sections_and_places():
    english, chinese = map(read, READMES)
    assert commands_of(english) == commands_of(chinese)
    levels = [re.findall(r"^(#+) ", text, re.MULTILINE) for text in (english, chinese)]
    assert levels[0] == levels[1]
    own = {"README.md": "README", "README.zh.md": "README"}  # each names its twin and its picture
    own |= {f"book/_static/home-{lang}.png": "the picture" for lang in ("en", "zh")}
    shown = [{own.get(place, place) for place in places(text)} for text in (english, chinese)]
    assert shown[0] == shown[1]


def places(markdown: str) -> set[str]:
    """What the links and pictures of a page point to in this checkout."""
    return {link for link in re.findall(r"\]\(([^)#\s]+)", markdown) if "://" not in link}


@pytest.mark.parametrize("name", [*READMES, "CONTRIBUTING.md"])
def test_every_link_of_a_page_leads_somewhere(name):
    prose = re.sub(
        r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", read(name), flags=re.MULTILINE | re.DOTALL)
    )
    assert [place for place in places(prose) if not (ROOT / place).exists()] == []


@pytest.mark.parametrize("name", READMES)
def test_the_map_names_every_chapter(name):
    chapters = {f"chapters/{path.name}" for path in (ROOT / "chapters").glob("[0-9]*.ipynb")}
    assert chapters - places(read(name)) == set()


# ---------------------------------------------------------------- a library to read in an evening


UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def unsafe_uses(source: str) -> list[str]:
    """Pickle, and text run as code: eval(...), exec(...), torch.load(...). `model.eval()` is another thing."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [node.module or ""]
            found += [name for name in modules if name.split(".")[0] in UNSAFE_MODULES]
            found += [name for name in names if modules == ["torch"] and name in ("load", "save")]
        elif isinstance(node, ast.Name) and node.id in ("eval", "exec", "__import__"):
            found.append(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            found += (
                [name]
                if name in ("torch.load", "torch.save", "builtins.eval", "builtins.exec")
                else []
            )
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_pickle_and_no_eval(path):
    """Guards against a checkpoint, or a model's answer, that runs code when it is read."""
    assert unsafe_uses(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval(x)",
        "torch.load(f)",
        "from torch import load",
    ],
)
def test_an_unsafe_use_is_found(source):
    assert unsafe_uses(source)


def imports(source: str) -> set[str]:
    """The modules a file imports; `from dpo_core import x` counts as dpo_core.x."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= (
                {node.module}
                if node.module != "dpo_core"
                else {f"dpo_core.{alias.name}" for alias in node.names}
            )
    return found


def within(sources: dict[str, str]) -> dict[str, set[str]]:
    """Module -> the modules of dpo_core that it imports; both as `a` or `a.b`."""
    found = {}
    for name, source in sources.items():
        inside = {
            module.removeprefix("dpo_core.")
            for module in imports(source)
            if module.startswith("dpo_core.")
        }
        known = {module if module in sources else module.rpartition(".")[0] for module in inside}
        found[name] = {module for module in known if module in sources} - {name}
    return found


def circles(arrows: dict[str, set[str]]) -> set[str]:
    """The modules that import themselves by a detour."""
    reached = {name: set(targets) for name, targets in arrows.items()}
    for _ in arrows:
        for targets in reached.values():
            targets |= {far for near in list(targets) for far in reached[near]}
    return {name for name, targets in reached.items() if name in targets}


def module_name(path: Path) -> str:
    """`checkpoint`, or `commands.parser`, of a file of the library."""
    return ".".join(path.relative_to(ROOT / "dpo_core").with_suffix("").parts)


SOURCES = {module_name(path): path.read_text(encoding="utf-8") for path in MODULES}


def test_no_module_imports_itself_by_a_detour():
    assert circles(within(SOURCES)) == set()


def test_nothing_imports_commands_but_commands():
    """DESIGN: commands sit on top; plotting is for chapters."""
    outside = {
        name: arrows for name, arrows in within(SOURCES).items() if not name.startswith("commands.")
    }
    assert [
        name for name, arrows in outside.items() if any(a.startswith("commands") for a in arrows)
    ] == ["__main__"]
    assert [name for name, arrows in within(SOURCES).items() if "plotting" in arrows] == []


def test_the_model_and_the_losses_know_nothing_of_training():
    """DESIGN: arrows point one way; the loop knows no loss."""
    arrows = within(SOURCES)
    for name in ("tokenizer", "task", "model", "losses", "family", "policy_gradient", "tabular"):
        assert not arrows[name] & {"training", "steps", "run_state", "checkpoint", "sampling"}, name
    assert not arrows["training"] & {"losses", "steps", "pairs", "rl", "policy_gradient"}


def test_a_circle_and_a_wrong_arrow_are_found():
    broken = {
        "a": "from dpo_core import b",
        "b": "from dpo_core.c import d",
        "c": "import dpo_core.a",
    }
    assert circles(within(broken)) == {"a", "b", "c"}
    assert within({"model": "from dpo_core.commands.run import x", "commands.run": ""})[
        "model"
    ] == {"commands.run"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_module_imports_a_notebook_tool(path):
    tools = {"IPython", "ipywidgets", "jupytext", "nbformat", "nbclient", "notebook"}
    assert {
        name.split(".")[0] for name in imports(path.read_text(encoding="utf-8"))
    } & tools == set()


# ---------------------------------------------------------------- the checkout


def strangers(paths: list[str]) -> set[str]:
    """Top-level entries that the design does not know; dot-files are tools' business."""
    return {path.split("/")[0] for path in paths if not path.startswith(".")} - TOP


def test_the_top_level_holds_only_what_the_design_names(tracked):
    assert strangers(tracked) == set()
    assert {name for name in TOP if not (ROOT / name).exists()} == set()


def test_a_stranger_at_the_top_is_found():
    assert strangers([".gitignore", "README.md", "notes.txt", "scripts/x.py"]) == {
        "notes.txt",
        "scripts",
    }


TEXT = {
    ".py",
    ".md",
    ".toml",
    ".yml",
    ".cff",
    ".lock",
    ".sh",
    ".js",
    ".css",
    ".html",
    ".bib",
    ".json",
    ".jsonl",
    "",
}
MACHINE_PATH = re.compile(r"(?<![\w./:*-])/(?:work|tmp|root|home|Users|opt|srv|var)/[\w.]")


def machine_paths(text: str) -> list[str]:
    return [line for line in text.splitlines() if MACHINE_PATH.search(line)]


def test_no_file_names_a_place_on_somebodys_machine(tracked):
    """Guards against a path that exists only where the file was written. Notebooks: test_pairing.py."""
    texts = [
        path
        for path in tracked
        if Path(path).suffix in TEXT and "/vendor/" not in path and path not in EXAMPLES
    ]
    assert {path: found for path in texts if (found := machine_paths(read(path)))} == {}


# name such places in order to find them
EXAMPLES = {"tests/test_house.py", "tests/test_pairing.py"}


def test_a_machine_path_is_found():
    assert (
        machine_paths("see /opt/book/x.py")
        and machine_paths('open("/tmp/x")')
        and machine_paths("/home/ann/b")
    )
    assert not machine_paths("https://host/home/ann and book/tmp/x")


def test_the_shipped_models_are_under_version_control(tracked):
    """Guards against a .gitignore line that keeps the weights out of the repository, and so out of the package."""
    for name in ("gen", "dpo"):
        assert f"dpo_core/pretrained/{name}.model/model.safetensors" in tracked


# ---------------------------------------------------------------- the chapters' budget


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows keeps no account of children's CPU time"
)
def test_a_chapter_over_its_cpu_budget_fails(tmp_path):
    """The gate of chapters/conftest.py, on a notebook that computes for a second; 0.02 times 25 is half of one."""
    burn = "import time\nwhile time.process_time() < 1:\n    pass"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(burn)])
    nbformat.write(notebook, tmp_path / "01_burn.ipynb")
    (tmp_path / "conftest.py").write_text(read("chapters/conftest.py"), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = --nbval --nbval-current-env\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "pytest", "-p", "nbval.plugin", "-p", "no:cacheprovider", "-q"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CPU_FACTOR": "0.02"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the gate needs nbval alone
    run = subprocess.run(
        [*command, "01_burn.ipynb"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert "01_burn.ipynb used 1." in run.stdout or "01_burn.ipynb used 2." in run.stdout, (
        run.stdout
    )
    assert "1 passed, 1 error" in run.stdout and run.returncode == 1, run.stdout


def test_code_is_in_the_form_that_make_format_gives():
    """Guards against a change that was never formatted: chapters at 88 columns, the rest at 100."""
    done = subprocess.run(
        ["make", "--no-print-directory", "lint"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
