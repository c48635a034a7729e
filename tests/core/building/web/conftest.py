import pytest

from polyvec.data.building.web.browser import Browser, PageSize, find_browser


@pytest.fixture(scope="session")
def browser():
    """One browser for all tests, with small pages."""
    try:
        program = find_browser()
    except ValueError as error:
        pytest.skip(str(error))
    with Browser(program, size=PageSize(400, 300, 1)) as started:
        yield started
