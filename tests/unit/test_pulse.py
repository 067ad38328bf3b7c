from hypothesis import given
from hypothesis import strategies as st

from hl_platform.pipeline.pulse import Pulse

LIMIT_S = 2.5


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=30))
def test_a_standstill_is_noticed_by_whoever_wakes_first_and_never_forgotten(steps: list[tuple[float, bool]]):
    now = 0.0
    pulse = Pulse(LIMIT_S, lambda: now)
    last_beat, stood_still = 0.0, False
    for pause_s, beats in steps:
        now += pause_s
        stood_still = stood_still or now - last_beat > LIMIT_S
        if beats:
            pulse.beat()
            last_beat = now
        assert pulse.missed == stood_still


def test_a_process_that_goes_on_beats_by_itself():
    pulse = Pulse(LIMIT_S)
    pulse.start()
    assert not pulse.missed
    pulse.stop()
