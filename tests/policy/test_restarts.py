from ray.policy.restarts import RestartRate

LIMIT, WINDOW_MS, PAUSE_MS = 5, 60_000, 100


def rate(essential: bool = False) -> RestartRate:
    return RestartRate(LIMIT, WINDOW_MS, PAUSE_MS, essential)


def test_first_death_restarts_at_once() -> None:
    assert rate().died(7) == 0


def test_delays_double_up_to_the_limit() -> None:
    service = rate()
    assert [service.died(now) for now in range(LIMIT)] == [0, 100, 200, 400, 800]


def test_beyond_the_limit_the_rate_is_that_of_the_window() -> None:
    service = rate()
    now = 0
    starts = []
    while now < 20 * WINDOW_MS:
        delay = service.died(now)
        assert delay is not None
        now += delay + 1  # it dies at once again
        starts.append(now)
    for start in starts:
        assert sum(start <= other < start + WINDOW_MS for other in starts) <= 2 * LIMIT + 1
    assert len(service.deaths) <= LIMIT + 1


def test_an_essential_service_is_given_up_after_the_limit() -> None:
    service = rate(essential=True)
    assert None not in [service.died(now) for now in range(LIMIT)]
    assert service.died(LIMIT) is None


def test_old_deaths_are_forgotten() -> None:
    service = rate(essential=True)
    assert [service.died(number * WINDOW_MS) for number in range(50)] == [0] * 50
