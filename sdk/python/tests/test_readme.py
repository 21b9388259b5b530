"""The README's Python is run as it stands; what needs a server only by its name is run in test_server.py."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
SAMPLE = "ip_allowlist:1.0-beta"


@pytest.mark.parametrize("block", [block for block in BLOCKS if SAMPLE not in block])
def test_examples_without_a_server(block):
    exec(compile(block, str(README), "exec"), {})
