"""How many requests a client may make."""

from hl_live.rates import MAX_CLIENTS, Rates


def test_a_client_has_its_requests_at_once_and_each_back_after_its_share_of_a_minute() -> None:
    rates = Rates(60)
    assert [rates.take("a", 0.0).allowed for _ in range(61)] == [*[True] * 60, False]
    assert rates.take("a", 0.0).retry_after_s == 1.0
    assert [rates.take("a", 1.0).allowed for _ in range(2)] == [True, False]
    assert [rates.take("a", 61.0).allowed for _ in range(61)] == [*[True] * 60, False]


def test_a_client_at_the_rate_is_never_refused() -> None:
    rates = Rates(60_000)
    assert all(rates.take("a", n / 1_000).allowed for n in range(100_000))


def test_a_client_costs_no_other_its_requests() -> None:
    rates = Rates(1)
    assert [rates.take(client, 0.0).allowed for client in ("a", "a", "b")] == [True, False, True]


def test_the_headers_tell_what_is_left() -> None:
    rates = Rates(60)
    assert rates.headers(rates.take("a", 0.0)) == {
        "RateLimit-Policy": '"requests";q=60;w=60',
        "RateLimit": '"requests";r=59;t=1',
    }


def test_memory_does_not_grow_with_clients() -> None:
    rates = Rates(60)
    for n in range(MAX_CLIENTS + 10):
        rates.take(str(n), 0.0)
    assert len(rates) == MAX_CLIENTS
