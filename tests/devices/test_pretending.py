"""The pretended device itself: it computes, refuses mixing, and counts what the host waits for."""

import pytest
import torch

from tests.pretended_device import MixedDevices, Pretended, moved, pretending, values


def test_values_are_computed_and_stay_there() -> None:
    with pretending() as watch:
        made = torch.arange(6, device="pretended").view(2, 3)
        brought = torch.ones(3).to("pretended")
        result = (made[1:] + brought).float().softmax(-1)
        made.add_(1)
        made[0] = 7
        assert isinstance(result, Pretended) and str(result.device) == "pretended:0"
        assert [wait.operation for wait in watch.waits] == ["from host"]
    assert torch.equal(values(result), (torch.arange(3.0, 6)[None] + 1).softmax(-1))
    assert values(made).tolist() == [[7, 7, 7], [4, 5, 6]]


def test_views_of_ordinary_tensors_in_inference_mode() -> None:
    with pretending():
        made = torch.ones(2, 3, device="pretended")
        with torch.inference_mode():
            assert not made[0].is_inference() and (made + 1).is_inference()


@pytest.mark.parametrize(
    "mix",
    [
        lambda there: there + torch.ones(3),
        lambda there: torch.cat([there, torch.ones(3)]),
        lambda there: torch.ones(3)[there.long()],
        lambda there: torch.where(torch.ones(3, dtype=torch.bool), there, 0),
        lambda there: torch.nn.functional.linear(there, torch.ones(2, 3)),
        lambda there: there.index_select(0, torch.tensor([0])),
        lambda there: there + torch.ones(3, device="pretended:1"),
        lambda there: torch.nn.functional.scaled_dot_product_attention(
            there.view(1, 1, 1, 3), torch.ones(1, 1, 1, 3), torch.ones(1, 1, 1, 3)
        ),
    ],
)
def test_two_devices_never_meet(mix) -> None:  # type: ignore[no-untyped-def]
    with pretending():
        there = torch.ones(3, device="pretended")
        with pytest.raises(MixedDevices):
            mix(there)
        assert values(there * torch.tensor(2.0)).tolist() == [2, 2, 2]  # a number may go anywhere


def test_numpy_does_not_read_it() -> None:
    with pretending(), pytest.raises(TypeError, match="numpy"):
        torch.ones(3, device="pretended").numpy()


@pytest.mark.parametrize(
    ("work", "operation"),
    [
        (lambda there: float(there.sum()), "_local_scalar_dense"),
        (lambda there: bool((there > 0).any()), "_local_scalar_dense"),
        (lambda there: there.tolist(), "to host"),
        (lambda there: there.cpu(), "to host"),
        (lambda there: there.nonzero(), "nonzero"),
        (lambda there: torch.where(there > 0), "nonzero"),
        (lambda there: there[there > 0], "index by a mask"),
        (lambda there: torch.equal(there, there), "equal"),
        (lambda there: there.unique(), "_unique2"),
        (lambda there: torch.tensor([1.0], device="pretended"), "from host"),
        (lambda there: there.new_tensor([1.0]), "from host"),
        (lambda there: there.copy_(torch.ones(3)), "from host"),
        (lambda there: there[torch.tensor([0, 1])], "from host"),
        (lambda there: there.repeat_interleave(there.long()), "repeat_interleave"),
    ],
)
def test_a_wait_is_noted(work, operation) -> None:  # type: ignore[no-untyped-def]
    with pretending() as watch:
        there = torch.ones(3, device="pretended")
        assert watch.waits == []
        work(there)
        assert [wait.operation for wait in watch.waits] == [operation]
        assert not watch.waits[0].is_ours


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_needs_no_waiting_is_not_noted(mode) -> None:  # type: ignore[no-untyped-def]
    with pretending() as watch, mode():
        there = torch.ones(4, device="pretended")
        torch.full((2,), 3.0, device="pretended")
        torch.ones(3).to("pretended", non_blocking=True)
        torch.tensor([], device="pretended")
        there.masked_fill(there > 0, 2.0).topk(2)
        there[there > 0] = 1.0
        there.view(2, 2) @ there.view(2, 2)
        assert watch.waits == []


def test_a_model_is_moved_with_its_tied_weights() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[1].weight = model[0].weight
    with pretending():
        moved(model, "pretended:1")
        assert model[0].weight is model[1].weight
        result = model(torch.ones(1, 2, device="pretended:1"))
        assert str(result.device) == "pretended:1"
        with pytest.raises(MixedDevices):
            model(torch.ones(1, 2))
