import keras
import pytest
from helpers import once

from benchmarks import gpu, offline

PROGRAM = """HloModule step

%body (x: (s32[], f32[8,16])) -> (s32[], f32[8,16]) {
  %x = (s32[], f32[8,16]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%x), index=0
  %y = f32[8,16]{1,0} get-tuple-element(%x), index=1
  %z = f32[8,16]{1,0} fusion(%y), kind=kLoop, calls=%double
  ROOT %both = (s32[], f32[8,16]{1,0}) tuple(%n, %z)
}

ENTRY %main (a: bf16[8,16]) -> f32[8] {
  %a = bf16[8,16]{1,0} parameter(0)
  %b = f32[8,16]{1,0} custom-call(%a), custom_call_target="__gpu$xla.gpu.triton"
  %c = (s32[], f32[8,16]{1,0}) tuple(%n, %b)
  %d = (s32[], f32[8,16]{1,0}) while(%c), condition=%less, body=%body, """ + (
    """backend_config={"known_trip_count":{"n":"3"}}
  %e = f32[8,16]{1,0} get-tuple-element(%d), index=1
  ROOT %f = f32[8]{0} fusion(%e), kind=kInput, calls=%sum
}
"""
)


@once
def test_kernels_and_bytes_of_a_program():
    kernels, moved = offline.cost(PROGRAM)
    assert kernels == {"triton": 1, "fusion": 4}
    assert moved == (256 + 512) + 3 * (512 + 512) + (512 + 32)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="counts PyTorch's")
def test_operations_of_a_step(monkeypatch):
    monkeypatch.setattr(gpu, "STEPS", {"digit capsules": (2, 6, 3, 1, 4, 5)})
    assert 100 < offline.operations("digit capsules", "kept") < 500


@once
def test_the_table(capsys):
    tasks = offline.tasks()
    offline.report([{**task, "kernels": 7} for task in tasks])
    assert capsys.readouterr().out.count("| 7 |") == len(tasks)
