from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.support import NodeProcess, Upstream


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Starts nodes; what is left of them at the end is killed."""
    nodes: list[NodeProcess] = []

    def begin(name: str = "data", **options: Any) -> NodeProcess:
        nodes.append(NodeProcess(tmp_path / name, **options))
        return nodes[-1]

    yield begin
    for node in nodes:
        node.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()
