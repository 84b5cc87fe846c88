"""Sweep files and overrides that mean harm: refused within seconds, in bounded text, never with a traceback."""

from __future__ import annotations

import os
import re
import string
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aream.errors import AreamError
from orchestrator.spec.reader import load_spec
from orchestrator.spec.yaml_source import MAX_PROBLEMS, SpecError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [path.read_text() for path in sorted((ROOT / "sweeps").glob("*.yaml"))]
LONGEST_REFUSAL = 100_000
QUICK_S = 15
"""Generous: machines that run tests are shared. What is guarded against takes minutes or does not end."""


def refusal(path: Path, *overrides: str) -> str:
    started = time.process_time()
    with pytest.raises(SpecError) as caught:
        load_spec(path, overrides)
    assert time.process_time() - started < QUICK_S
    text = str(caught.value)
    assert len(text) < LONGEST_REFUSAL
    assert all(line.isprintable() for line in text.split("\n"))
    return text


def loads_or_is_refused(path: Path, *overrides: str) -> None:
    said = ""
    try:
        load_spec(path, overrides)
    except AreamError as error:
        said = str(error)
    assert len(said) < LONGEST_REFUSAL


@pytest.fixture
def sweep(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
        return path

    return write


def bomb() -> str:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "name: x\n" + "\n".join(levels)


def axis(count: int) -> str:
    return "[" + ", ".join(str(i + 1) for i in range(count)) + "]"


GRID = "name: x\naxes:\n" + "".join(
    f"  {key}: {axis(300)}\n" for key in ("train.epochs", "train.batch_size", "train.lr", "labels.thresholds")
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb(), "sweep.yaml:2: anchors and aliases are not allowed"),
        ("name: x\na: &a [*a]", "anchors and aliases are not allowed"),
        ("name: x\n<<: {name: y}", "<<: unknown key"),
        ("name: x\nseeds: " + "[" * 100_000, "nested deeper than 20 levels"),
        ("name: x\nseeds: " + "{a: " * 5000, "nested deeper than 20 levels"),
        ("name: x\n" + "\n".join(" " * i + "a:" for i in range(1000)), "nested deeper"),
        ("name: x\nseeds: [" + "0," * 600_000 + "]", "at most 1048576"),
        ("name: x\nseeds: [" + ",".join(map(str, range(100_000))) + "]", "2: more than 20000 keys and values"),
        (
            f"name: x\nseeds: {axis(400)}\naxes: {{train.epochs: {axis(300)}}}",
            "given 120,000 points at 400 seeds; at most 100,000",
        ),
        (GRID, "2: axes: given 8,100,000,000 points; at most 100,000 are allowed"),
        (f"{GRID}seeds: [0, 1]", "given 16,200,000,000 points at 2 seeds"),
        (
            "name: x\nsegmentation:\n  axes: {train.epochs: " + axis(400) + ", train.crop: " + axis(400) + "}",
            "segmentation.axes: given 160,000 points; at most 100,000",
        ),
        (
            "name: x\nsearch: {trials: 5}\naxes:\n  train.epochs: {int: [1, 9]}\n"
            f"  inference.layers: {axis(400)}\n  labels.thresholds: {axis(400)}",
            "given 160,000 variants a trial",
        ),
        ("name: x\nsearch: {trials: 9223372036854775807}\naxes: {train.lr: {uniform: [1e-4, 1e-3]}}", "at most 100000"),
        ("name: x\nsearch: {trials: 2, seed: 4294967296}\naxes: {train.lr: {uniform: [1e-4, 1e-3]}}", "below 2**32"),
        ("name: x\ntrain: {epochs: " + "9" * 5000 + "}", "2: train.epochs: given 9999"),
        ("name: x\ntrain: {epochs: 9223372036854775808}", "numbers must be finite and fit 64 bits"),
        ("name: x\ntrain: {lr: 1e" + "9" * 5000 + "}", "numbers must be finite and fit 64 bits"),
        ("name: x\ntrain: {lr: -.inf}", "numbers must be finite"),
        ("name: x\ntrain: {lr: !!float nan}", "numbers must be finite"),
        ("name: x\nsegmentation: {evaluate: {flip: !!bool perhaps}}", "it is not a bool"),
        ("name: x\ntrain: {lr: !!null 5}", "it is not a null"),
        ("name: x\ntrain: {epochs: !!int 5e3}", "it is not a int"),
        ("name: x\ntrain: !!binary aGk=", "only plain values are allowed"),
        ("name: x\n" + "k" * 900 + ": 1", "keys have at most 200"),
        ("name: x\n? " + "k" * 900_000 + "\n: 1", "keys have at most 200"),
        ('name: x\naxes: {"train.epochs' + ".a" * 90 + '": [1]}', "with 20 dots"),
        ("name: ../up", "need letters, digits"),
        ("name: /etc/passwd", "need letters, digits"),
        ('name: "a\\0b"', r"the character '\x00' is not allowed"),
        ('name: "a\\nb"', "need letters, digits"),
        ("name: $(touch pwned)", "need letters, digits"),
        ("name: .hidden", "need letters, digits"),
        ("name: " + "x" * 65, "at most 64"),
        ("name: ｘ", "need letters, digits"),
        ('name: x\ndata: {name: voc2012, root: "\\ud800"}', r"data.root: the character '\ud800'"),
        ('name: x\ndata: {name: voc2012, root: "\\UFFFFFFFF"}', "not YAML"),
        ('name: x\ndata: {name: voc2012, root: "a\\eb"}', r"'\x1b' is not allowed"),
        ("name: x\ndata: {name: voc2012, root: ~nobody-of-this-name/x}", "no such user's home folder"),
        ("name: x\nstore: {uri: a\u202eb}", r"store.uri: the character '\u202e' is not allowed"),
        ("name: x\n\u2066train\u2069: {}", "keys hold letters that can be seen"),
        ("name: x\ntr\u0430in: {epochs: 3}", r"tr\u0430in: unknown key"),
        (b"\xff\xfen\x00a\x00m\x00e\x00", "need UTF-8 text"),
        (b"n\x00a\x00m\x00e\x00:\x00 \x00x\x00", "special characters are not allowed"),
        (b"name: \xed\xa0\x80", "need UTF-8 text"),
        ("name: x\nmethod: {name: protocol}", "aream.methods has no 'protocol'"),
        ("name: x\nmethod: __init__", "aream.methods has no '__init__'"),
        ("name: x\nmethod: ../x", "aream.methods has no '../x'"),
        ("name: x\nmethod: os.path", "aream.methods has no 'os.path'"),
        ("name: x\nbackbone: mctformer_v2.torch", "aream.backbones has no"),
        ("name: x\naxes: {backbone.name: [_checkpoint]}", "aream.backbones has no '_checkpoint'"),
        ("name: x\naxes: {backbone: [{name: ..methods.aream}]}", "aream.backbones has no '..methods.aream'"),
        ("name: x\nlabels: {refiner: protocol}", "aream.refiners has no 'protocol'"),
        ("name: x\ntrain: {augmentation: {rand_augment: rand-m1e999}}", "rand_augment: "),
        ("name: x\ntrain: {augmentation: {rand_augment: rand-n999999999}}", "rand_augment: "),
        ("name: x\nwhere: " + str(["1 < 2"] * 21), "at most 20"),
    ],
    ids=lambda value: None,
)
def test_files_are_refused_quickly_and_in_bounded_text(sweep, text, message):
    assert message in refusal(sweep(text))


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9 > 1",
        "'a' * 999999999 == 'b'",
        "[1] * 999999999 == 1",
        "1 << 999999999 > 1",
        "(" * 190 + "1" + ")" * 190 + " < 0",
        "-" * 450 + "1 > 0",
        "not " * 110 + "1",
        "[" * 80 + "]" * 80 + " == 1",
        "9" * 5000 + " > 1",
        "1e400 * 0 == 1e400 * 0",
        "method.__class__.__mro__ == 1",
        "__import__('os').system('touch pwned')",
        "(lambda: 1)() == 1",
        "[x for x in 'abc'] == 1",
        "f'{1}' == 1",
        "method.alpha_low < 'a'",
        "method.alpha_low / 0 > 1",
        "method.alpha_low in 5",
        "train.lr[0] == 1",
        "a\0b == 1",
        "1j == 1",
        "(a := 5) == 1",
        "name == 'x'",
        "seed.real > 1",
    ],
)
def test_constraints_that_blow_up(sweep, expression):
    path = sweep("name: x\naxes: {method.alpha_low: [0.1, 0.2]}\n")
    quoted = "'" + expression.replace("'", "''") + "'"
    refusal(path, f"where=[{quoted}]")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=" + "9" * 5000, "train.epochs: given 9999"),
        ("train.lr=.nan", "numbers must be finite"),
        ("train.lr=1e" + "9" * 300, "numbers must be finite"),
        ("name=../x", "need letters, digits"),
        ("method=protocol", "aream.methods has no 'protocol'"),
        ("method.name=__init__", "aream.methods has no '__init__'"),
        ("seeds=[" + "0," * 600_000 + "]", "at most 1048576"),
        ("seeds=[" + "0," * 30_000 + "]", "more than 20000"),
        ("seeds=&a [0]", "anchors and aliases"),
        ("seeds=" + "[" * 5000, "nested deeper"),
        ("train" + ".a" * 3000 + "=1", "keys have at most 200"),
        ("train.epochs" + ".a" * 60 + "=1", "with 20 dots"),
        ("train.epochs.a=1", "train.epochs: given {'a': 1}; need a valid integer"),
        ("data.root=a\udcffb", "special characters are not allowed"),
        ("k\udcff=1", "keys hold letters that can be seen"),
        ("a\nb=1", "keys hold letters that can be seen"),
        ("..=1", "need KEY=VALUE"),
        ("=1", "need KEY=VALUE"),
        ("", "need KEY=VALUE"),
        ("name=[", "not YAML"),
        ("axes=1", "need a section with one key an axis"),
        ("axes.__class__=[1]", "must belong to one of the sections"),
        ("where=1 < 2", "need a list of constraints"),
    ],
    ids=lambda value: None,
)
def test_overrides_are_held_to_the_same(sweep, override, message):
    assert message in refusal(sweep("name: x\n"), override)


@pytest.mark.slow
def test_problems_without_end_are_counted(sweep):
    text = refusal(sweep("name: x\n" + "".join(f"k{index}: 1\n" for index in range(5000))))
    assert len(text.splitlines()) == MAX_PROBLEMS + 1
    assert f"and {5000 - MAX_PROBLEMS} more problems" in text


def test_a_byte_order_mark_is_no_part_of_the_text(sweep):
    spec = load_spec(sweep(b"\xef\xbb\xbf# Why?\nname: x\n"))
    assert (spec.name, spec.description) == ("x", "Why?")


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "no such path", "impossible path"])
def test_paths_that_are_no_file(tmp_path, kind):
    path = {"device": Path("/dev/zero"), "impossible path": tmp_path / "a\0b"}.get(kind, tmp_path / "here")
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    assert "cannot be read" in refusal(path)


@pytest.mark.slow
def test_the_command_shows_no_traceback(sweep):
    path = sweep('name: x\ndata: {root: "\\ud800"}\n')
    command = [sys.executable, "-m", "orchestrator.sweep", str(path), "--plan", "--set", "colour=\udcff"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert re.search(r"sweep\.yaml:2: data\.root: the character", done.stderr)


SCALARS = st.one_of(
    st.sampled_from(
        [
            "~",
            "true",
            ".nan",
            "-.inf",
            "1e999",
            "9" * 400,
            "-1",
            "0",
            "[]",
            "{}",
            "[[]]",
            "''",
            "*a",
            "&a x",
            "!!set {}",
        ]
    ),
    st.sampled_from(["{name: protocol}", "{grid: []}", "{uniform: [1, 0]}", "[1, 1]", "pretrained", "../x", '"\\0"']),
    st.integers().map(str),
    st.floats().map(repr),
    st.text(alphabet=string.printable + "\u202e\u0430\ufeff", max_size=12),
)


@st.composite
def mutated(draw) -> str:
    """A shipped sweep with some of its words, lines or characters replaced, doubled or gone."""
    text = draw(st.sampled_from(SHIPPED))
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["value", "line", "character", "cut"]))
        if kind == "value":
            words = list(re.finditer(r"[^\s{}\[\],:]+", text))
            if words:
                word = draw(st.sampled_from(words))
                text = text[: word.start()] + draw(SCALARS) + text[word.end() :]
        elif kind == "line":
            lines = text.split("\n")
            index = draw(st.integers(0, len(lines) - 1))
            lines[index : index + 1] = draw(st.sampled_from([[], [lines[index]] * 2, [" " + lines[index]]]))
            text = "\n".join(lines)
        else:
            at = draw(st.integers(0, len(text)))
            text = text[:at] if kind == "cut" else text[:at] + draw(st.characters()) + text[at + 1 :]
    return text


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(text=mutated())
def test_mutated_sweeps_load_or_are_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("mutated") / "sweep.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    loads_or_is_refused(path)


KEYS = st.one_of(
    st.sampled_from(["name", "seeds", "train.epochs", "method", "axes.method.alpha_low", "where", "labels.refiner"]),
    st.text(alphabet="abtrain.[]_", max_size=20),
)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(overrides=st.lists(st.tuples(KEYS, SCALARS).map("=".join), min_size=1, max_size=3))
def test_mutated_overrides_load_or_are_refused(tmp_path_factory, overrides):
    path = tmp_path_factory.mktemp("overrides") / "sweep.yaml"
    path.write_text("name: x\n")
    loads_or_is_refused(path, *overrides)
