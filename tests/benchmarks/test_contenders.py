import keras
import pytest

from benchmarks import contenders


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="once, where nothing is compiled"
)
def test_steps_are_compared_with_those_of_the_cnn(capsys):
    found = contenders.measure_contender("uniform")
    assert found["images_per_second"] > 0.0 and found["extra_mb"] > 0.0
    results = [
        {"routing": name, "round": 0, "images_per_second": speed, "extra_mb": 70.4}
        for name, speed in {"uniform": 50.0, "cnn": 100.0}.items()
    ]
    contenders.report(results)
    lines = capsys.readouterr().out.splitlines()
    assert "| uniform | 2.0 | 70 |" in lines and "| cnn | 1.0 | 70 |" in lines
    assert "| em | – | – |" in lines
