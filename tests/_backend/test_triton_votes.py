import keras
import pytest
import sums_over_votes

if keras.backend.backend() != "torch":
    pytest.skip("kernels for PyTorch", allow_module_level=True)
pytest.importorskip("triton")

import torch

from keras_capsules._backend import tiles, triton_votes


@pytest.mark.parametrize("case", sums_over_votes.CASES)
def test_sums_over_votes(case, monkeypatch):
    if case == sums_over_votes.CASES[0]:
        monkeypatch.setattr(tiles, "WARPS", 1)  # a program for all children
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def tensor(x):
        return torch.tensor(x, dtype=torch.float32, device=device)

    sums_over_votes.check(triton_votes, tensor, lambda x: x.cpu().numpy(), case)
