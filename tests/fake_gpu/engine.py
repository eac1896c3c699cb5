"""Reverse differentiation in Python through the nodes that PyTorch recorded.

PyTorch's engine asks the CUDA driver for the streams of CUDA tensors, so it cannot run on fake ones
where there is no driver. The nodes can: each is a function from the gradients of its results to
those of its inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

Node = torch.autograd.graph.Node
Slots = dict[Node, list[torch.Tensor | None]]  # of a node: the gradient of each of its results


def grad(
    outputs,
    inputs,
    grad_outputs=None,
    retain_graph=None,
    create_graph=False,
    allow_unused=None,
    **others,
):
    """`torch.autograd.grad`."""
    outputs, inputs = (list(x) if isinstance(x, (list, tuple)) else [x] for x in (outputs, inputs))
    if grad_outputs is None:
        grad_outputs = [torch.ones_like(x) for x in outputs]
    elif isinstance(grad_outputs, torch.Tensor):
        grad_outputs = [grad_outputs]
    edges = [torch.autograd.graph.get_gradient_edge(x) for x in inputs]
    found = _run(outputs, grad_outputs, create_graph, {edge.node for edge in edges})
    results = tuple(found.get(edge.node, {}).get(edge.output_nr) for edge in edges)
    assert allow_unused or all(x is not None for x in results), "an input is not in the graph"
    return results


def backward(self, gradient=None, retain_graph=None, create_graph=False, inputs=None):
    """`Tensor.backward`: adds to `.grad` of every leaf."""
    _run([self], [torch.ones_like(self) if gradient is None else gradient], create_graph, None)


def _run(
    outputs: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor],
    create_graph: bool,
    wanted: set[Node] | None,
) -> dict[Node, dict[int, torch.Tensor]]:
    """The gradients that arrive at the `wanted` nodes, by result; None: in the leaves' `.grad`."""
    edges = [torch.autograd.graph.get_gradient_edge(x) for x in outputs]
    order = _in_order([edge.node for edge in edges])
    needed = _leads_to(order, wanted)
    slots: Slots = {}
    found: dict[Node, dict[int, torch.Tensor]] = {}
    for edge, gradient in zip(edges, gradients, strict=False):
        _add(slots, edge.node, edge.output_nr, gradient)
    with torch.set_grad_enabled(create_graph):
        for node in order:
            arrived = slots.pop(node, None)
            if arrived is None or node not in needed:
                continue
            arrived = [
                _checked(node, x, meta)
                for x, meta in zip(arrived, node._input_metadata, strict=False)
            ]
            if wanted is not None and node in wanted:
                found[node] = {i: x for i, x in enumerate(arrived) if x is not None}
            if node.name() == "torch::autograd::AccumulateGrad":
                if wanted is None and arrived[0] is not None:
                    _accumulate(node.variable, arrived[0] if create_graph else arrived[0].detach())
                continue
            for (follower, number), gradient in zip(
                node.next_functions, _call(node, arrived), strict=False
            ):
                if follower is not None and gradient is not None:
                    _add(slots, follower, number, gradient)
    return found


def _in_order(roots: Sequence[Node]) -> list[Node]:
    """Every node behind the roots, each before those that it passes gradients to."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack = [(node, False) for node in roots]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(follower, False) for follower, _ in node.next_functions if follower]
    return order[::-1]


def _leads_to(order: Sequence[Node], wanted: set[Node] | None) -> set[Node]:
    """The nodes from which gradients reach a wanted one."""
    if wanted is None:
        return set(order)
    needed: set[Node] = set()
    for node in reversed(order):
        if node in wanted or any(follower in needed for follower, _ in node.next_functions):
            needed.add(node)
    return needed


def _add(slots: Slots, node: Node, number: int, gradient: torch.Tensor) -> None:
    places = slots.setdefault(node, [None] * len(node._input_metadata))
    places[number] = gradient if places[number] is None else places[number] + gradient


def _checked(node: Node, gradient: torch.Tensor | None, meta) -> torch.Tensor | None:
    """A gradient lies where its tensor does; its shape is summed and its type cast, as there."""
    if gradient is None:
        return None
    where = f"a gradient on {gradient.device} of a tensor on {meta.device}"
    assert gradient.device == meta.device, f"{node.name()}: {where}"
    if gradient.shape != meta.shape:
        gradient = gradient.sum_to_size(meta.shape)
    return gradient if gradient.dtype == meta.dtype else gradient.to(meta.dtype)


def _call(node: Node, arrived: list[torch.Tensor | None]) -> Sequence[torch.Tensor | None]:
    if hasattr(node, "apply"):  # written in Python: there a missing gradient is zero
        full = [
            torch.zeros(tuple(meta.shape), dtype=meta.dtype, device=meta.device) if x is None else x
            for x, meta in zip(arrived, node._input_metadata, strict=False)
        ]
        result = node.apply(*full)
    else:
        result = node(*arrived)
    return result if isinstance(result, tuple) else (result,)


def _accumulate(leaf: torch.Tensor, gradient: torch.Tensor) -> None:
    assert gradient.dtype == leaf.dtype
    leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient
