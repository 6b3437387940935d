"""The collector of garbage, paused."""

import gc

import pytest

from pipeline.garbage import collector_paused


def test_it_is_off_inside_and_as_it_was_outside():
    @collector_paused()
    def on() -> bool:
        return gc.isenabled()

    assert not on()
    assert gc.isenabled()
    with pytest.raises(KeyError), collector_paused():
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        assert not on()
        assert not gc.isenabled()
    finally:
        gc.enable()
