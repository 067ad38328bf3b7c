import importlib.util
import inspect

import pytest
from dagster._grpc.server import DagsterApiServer

from hl_platform.code_server import PRELOADED, _forking_context


@pytest.mark.parametrize("module", PRELOADED)
def test_what_is_to_be_imported_beforehand_is_there(module: str):
    # Python passes over a missing one without a word, and every run would import it again.
    assert importlib.util.find_spec(module) is not None


def test_dagster_still_asks_for_the_start_method_that_is_replaced():
    assert 'multiprocessing.get_context("spawn")' in inspect.getsource(DagsterApiServer)
    assert _forking_context("spawn").get_start_method() == "forkserver"
    assert _forking_context("fork").get_start_method() == "fork"
