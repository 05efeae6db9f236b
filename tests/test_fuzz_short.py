"""`make fuzz` in small: a thousand spoiled pages, always the same."""

from tests.fuzz.__main__ import Fuzz


def test_no_spoiled_page_crashes_or_loses_an_object() -> None:
    fuzz = Fuzz(seed=7)
    fuzz.run(seconds=60, inputs=1000)
    assert fuzz.findings == {}
    assert fuzz.counts["inputs"] >= 1000
    assert fuzz.counts["rejects"] > 100
    kinds = ("accounts", "sessions", "authorizations", "transactions", "owners")
    assert {kind for kind in kinds if fuzz.counts[kind] > 50} == {*kinds}
