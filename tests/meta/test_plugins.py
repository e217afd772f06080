# SPDX-License-Identifier: Apache-2.0
"""Every plugin folder is one that anyone can predict: its files, its manual, its options, its metrics, its examples."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastdns import metrics, order, registry
from fastdns.corefile.tables import markdown_table

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path.parent for path in (ROOT / "plugins").glob("*/__init__.py"))
SECTIONS = ["Name", "Description", "Syntax", "Metrics", "Examples", "See Also"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
EXAMPLES = [
    pytest.param(text, id=f"{document.parent.name}-{number}")
    for document in [ROOT / "README.md", *ROOT.glob("plugins/README.md"), *(folder / "README.md" for folder in FOLDERS)]
    if document.exists()
    for number, (language, text) in enumerate(BLOCK.findall(document.read_text()))
    if language == "corefile"
]
WORD = re.compile(r"""["'](coredns_\w+|fastdns_\w+)["']""")
INTERNAL = re.compile(r"fastdns_(?:worker|ready|log_format|errors_site|extra_rcode|cookie_word)")
NAMES_OF_COREDNS = {  # counters of CoreDNS that lack the ending, kept for the sake of dashboards
    "coredns_cache_entries", "coredns_reload_version_info", "coredns_plugin_enabled", "coredns_build_info",
}  # fmt: skip

every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


def manual(folder: Path) -> str:
    return (folder / "README.md").read_text()


def test_there_is_something_to_check():
    assert len(FOLDERS) > 5 and len(EXAMPLES) > 5


@every_folder
def test_manual_has_the_sections_in_order(folder):
    found = re.findall(r"^## (.+)$", manual(folder), re.M)
    assert [section for section in found if section in SECTIONS] == SECTIONS
    assert manual(folder).startswith(f"# {folder.name}\n")
    assert f"*{folder.name}* - " in manual(folder)


def test_every_manual_is_listed():
    said = []
    for folder in FOLDERS:
        sentence = manual(folder).split(f"*{folder.name}* - ", 1)[1].split("\n")[0]
        said.append(f"- [{folder.name}]({folder.name}/README.md): {sentence}")
    listed = (ROOT / "plugins/README.md").read_text().split("## The manuals\n", 1)[1]
    assert listed.strip().splitlines() == said


@every_folder
def test_manual_shows_the_syntax(folder):
    part = manual(folder).split("## Syntax", 1)[1].split("\n## ", 1)[0]
    first = BLOCK.findall(part)[0][1].splitlines()[0]
    assert first.removesuffix(" {") == registry.load(folder.name).directive.syntax()


@every_folder
def test_option_table_is_made_of_the_rows(folder):
    directive = registry.load(folder.name).directive
    if directive.options:
        assert markdown_table(directive).strip() in manual(folder), f"should read:\n{markdown_table(directive)}"
        assert all(option.help for option in directive.options)


@every_folder
def test_directive_bears_the_folders_name(folder):
    found = registry.load(folder.name)
    assert found.name == found.directive.name == folder.name
    assert folder.name in order.PLACES or found.before or found.after


@every_folder
def test_manual_has_an_example(folder):
    part = manual(folder).split("## Examples", 1)[1]
    assert any(language == "corefile" and folder.name in text for language, text in BLOCK.findall(part))


def metrics_of(module) -> list[metrics.Metric]:
    return [value for value in vars(module).values() if isinstance(value, metrics.Metric)]


@every_folder
def test_metrics_are_in_the_manual(folder):
    text = manual(folder)
    for path in [*folder.glob("*.py"), *folder.glob("*.pyx")]:
        for name in WORD.findall(path.read_text()):
            assert name in text or INTERNAL.match(name), name


def every_metric() -> list[metrics.Metric]:
    found = [*metrics_of(metrics), *metrics.FROM_THE_START]
    for folder in FOLDERS:
        registry.load(folder.name)
        for path in folder.glob("*.py"):
            if path.stem != "__init__":
                found += metrics_of(importlib.import_module(f"fastdns.plugins.{folder.name}.{path.stem}"))
    return found


def test_metric_names_and_help():
    wrong = []
    for metric in every_metric():
        name = metric.name
        sound = re.fullmatch(r"(coredns|fastdns|process)(_[a-z0-9]+)+", name) is not None
        if metric.kind == "counter":
            sound = sound and (name.endswith("_total") or name in NAMES_OF_COREDNS)
        else:
            sound = sound and not name.endswith(("_total", "_count", "_sum", "_bucket"))
        if metric.kind == "histogram":
            sound = sound and name.endswith(("_seconds", "_bytes"))
        sound = sound and bool(metric.help) and metric.help[0].isupper() | metric.help[0].isdigit()
        sound = sound and all(re.fullmatch(r"[a-z_]+", label) for label in metric.labels)
        if not sound:
            wrong.append(metric)
    assert wrong == []


def test_one_name_one_shape():
    shapes: dict[str, set[tuple[str, tuple[str, ...]]]] = {}
    for metric in every_metric():
        shapes.setdefault(metric.name, set()).add((metric.kind, metric.labels))
    assert {name: found for name, found in shapes.items() if len(found) > 1} == {}


def child(program: str, *arguments: str, cwd: Path | None = None) -> str:
    """Runs a program in a fresh interpreter; its standard output."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd or ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


SET_UP = """
import sys
from fastdns import registry
from fastdns.corefile import Source, load_source
from fastdns.chain import load
from fastdns._stats import Stats

source = Source("Corefile", sys.argv[1].encode())
generation = load(load_source(source, registry.Known(), registry.not_built(), 53, {}))
plan = generation.plan()
assert plan["listeners"], plan
"""


@pytest.mark.parametrize("text", EXAMPLES)
def test_example_is_accepted(text, tmp_path):
    """Each Corefile of a manual is parsed and planned: all that happens before sockets are opened."""
    child(SET_UP, text, cwd=tmp_path)


IMPORTED = (
    SET_UP
    + """
names = {name.split(".")[2] for name in sys.modules if name.startswith("fastdns.plugins.")}
print(*sorted(names))
"""
)


@every_folder
def test_only_the_plugin_that_is_named_is_imported(folder):
    lines = {"forward": "forward . 127.0.0.1", "bind": "bind 127.0.0.1", "root": "root /", "on": "on startup true",
             "timeouts": "timeouts {\nread 5s\n}", "rrl": "rrl {\nqueries 100\n}", "template": "template IN A",
             "view": "view v"}
    lines["header"] = "header {\nquery set rd\n}"
    lines["autopath"] = "autopath @erratic"
    lines["geoip"] = "geoip file"
    lines["dnstap"] = "dnstap /tmp/dnstap.sock"
    lines["rewrite"] = "rewrite type ANY A"
    text = f".:1053 {{\n{lines.get(folder.name, folder.name)}\n}}\n"
    assert child(IMPORTED, text).split() == [folder.name]


def test_nothing_is_imported_without_need():
    program = "import sys, fastdns, fastdns.cli; print(*sorted(sys.modules))"
    found = child(program).split()
    assert [name for name in found if name.startswith(("fastdns.plugins", "dnslib", "asyncio"))] == []


def test_the_readmes_plugin_is_one():
    snippets = [text for language, text in BLOCK.findall((ROOT / "README.md").read_text()) if language == "python"]
    assert snippets
    for text in snippets:
        child(
            text
            + "\nfrom fastdns.plugin import Plugin as P\nassert any(issubclass(c, P) for c in P.__subclasses__())\n"
        )
