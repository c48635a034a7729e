import pytest

from polyvec.data.building.web.browser import Browser, PageSize, find_browser


@pytest.fixture(scope="module")
def browser():
    """One browser for the tests of a module, with small pages. Its thread has a running event loop meanwhile."""
    try:
        program = find_browser()
    except ValueError as error:
        pytest.skip(str(error))
    with Browser(program, size=PageSize(400, 300, 1)) as started:
        yield started
