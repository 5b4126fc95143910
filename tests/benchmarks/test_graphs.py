"""The graphs have the shapes that they are said to have, and a wrong run of one does not pass for a right one."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("shape", ["fan", "chain", "layers", "tree"])
@pytest.mark.parametrize("size", [1, 2, 50, 51, 130])
def test_every_step_reads_earlier_ones_only(shape: str, size: int) -> None:
    from graphs import graph

    made = graph(shape, size)
    assert len(made) == (size - (shape == "tree" and size % 2 == 0))
    assert all(source < index for index, above in enumerate(made) for source in above)


def test_a_tree_ends_in_one_step_that_reads_all_leaves() -> None:
    from graphs import graph, sinks

    made = graph("tree", 999)
    assert sinks(made) == [998]
    assert [len(above) for above in made].count(0) == 500
    assert {len(above) for above in made} == {0, 2}


def test_layers_are_fifty_wide_and_read_two_of_the_layer_before() -> None:
    from graphs import graph

    made = graph("layers", 150)
    assert made[:50] == [()] * 50
    assert made[50] == (0, 1)
    assert made[149] == (99, 50)


def test_an_order_lets_a_step_start_when_all_that_it_reads_has_ended() -> None:
    from graphs import Order, graph

    order = Order(graph("tree", 7))
    assert order.ready == [0, 1, 2, 3]
    assert [order.end(index, 1) for index in (0, 2, 1, 3)] == [[], [], [4], [5]]
    assert order.inputs(4) == [1, 1]


def test_a_run_that_left_a_step_out_is_found() -> None:
    from graphs import check, graph

    made = graph("chain", 3)
    check(made, [3])
    with pytest.raises(AssertionError, match="left out"):
        check(made, [2])


def test_an_unknown_shape_is_named() -> None:
    from graphs import graph

    with pytest.raises(ValueError, match="no shape 'star'"):
        graph("star", 3)
