from __future__ import annotations

import pytest
import torch

from hashing.training.networks import Ensemble
from hashing.training.study_descent import blocks_of

HIDDEN, OUTPUTS, COMPONENTS, RATE = (3, 7, 5), 2, 4, 0.05


def trained_by_autograd(network: Ensemble, batches: torch.Tensor, wanted: torch.Tensor) -> float:
    """Steps of `torch.autograd` on the ensemble itself; the sum of squared errors of the last."""
    parameters = list(network.parameters())
    for inputs, targets in zip(batches, wanted, strict=True):
        every = inputs.expand(len(HIDDEN), *inputs.shape)
        of_each = targets.reshape(len(inputs), len(HIDDEN), OUTPUTS).transpose(0, 1)
        loss = torch.sum((torch.sigmoid(network(every)) - of_each) ** 2)
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters), strict=True
        ):
            parameter.data.add_(gradient, alpha=-RATE)
    return loss.item()


@pytest.mark.parametrize("networks_per_block", [1, 2, 3, 8])
def test_blocks_of_any_size_descend_as_autograd_does(networks_per_block: int) -> None:
    torch.manual_seed(1)
    batches = torch.randn(20, 6, COMPONENTS)
    wanted = (torch.rand(20, 6, len(HIDDEN) * OUTPUTS) > 0.5).float()
    one, other = (Ensemble(COMPONENTS, HIDDEN, OUTPUTS) for _ in range(2))
    other.load_state_dict(one.state_dict())
    before = {name: value.clone() for name, value in one.state_dict().items()}
    expected = trained_by_autograd(one, batches, wanted)

    blocks = blocks_of(other, networks_per_block)
    assert [i for block in blocks for i in block.networks] == [0, 1, 2]
    errors = 0.0
    for block in blocks:
        bits = [i * OUTPUTS + bit for i in block.networks for bit in range(OUTPUTS)]
        for inputs, targets in zip(batches, wanted, strict=True):
            last = block.step(inputs, targets[:, bits], RATE)
        errors += float(last)
    assert errors == pytest.approx(expected, rel=1e-4)
    # Nothing changes in the ensemble until it is told to.
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    for block in blocks:
        block.store()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert not torch.equal(other.first, before["first"])


def test_what_is_stored_is_taken_up_again_unchanged() -> None:
    network = Ensemble(COMPONENTS, HIDDEN, OUTPUTS)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for block in blocks_of(network, 2):
        block.store()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
