import pytest

from benchmarks import soak
from tergan_core.serving import Request, Service


@pytest.mark.parametrize("kind", soak.kinds(), ids=lambda kind: kind.name)
def test_each_kind_of_request_has_the_status_that_it_is_said_to_have(kind, tiny_editor):
    fields = {name: value.encode() if isinstance(value, str) else value for name, value in kind.fields.items()}
    (response,) = Service(tiny_editor, kind.task).handle([Request(fields)])
    assert response.status == kind.status, response.body


def test_the_shares_of_the_kinds_are_all_of_the_requests():
    assert sum(kind.share for kind in soak.kinds()) == pytest.approx(1)


def test_a_straight_rise_is_found_without_error_and_noise_gives_one():
    line = [(second, 100 + second / 3600 * 30) for second in range(0, 1000, 10)]
    assert soak.rise(line, 300) == pytest.approx((30, 0), abs=1e-6)
    noisy = [(second, mib + (-1) ** (second // 10) * 2) for second, mib in line]
    slope, error = soak.rise(noisy, 0)
    assert abs(slope - 30) < 3 * error and error > 1
