"""The graphs that are run, as plain data, and the step that each of their nodes is. Imports nothing."""

#: For each step the steps that it reads, all of them before it.
Graph = list[tuple[int, ...]]

SHAPES = ("fan", "chain", "layers", "tree")
LAYER_WIDTH = 50

# Counts of paths grow without end in deep layers; an int of this size is a small one for every peer.
VALUE_BITS = 30
VALUE_MASK = (1 << VALUE_BITS) - 1


def step(*values: int) -> int:
    """What every peer runs: a no-op, but that its value shows that what it reads was made before."""
    return (1 + sum(values)) & VALUE_MASK


def graph(shape: str, size: int) -> Graph:
    """A graph of that shape with ``size`` steps; a tree has one less where that is even.

    ``fan``: steps that read nothing. ``chain``: each reads the one before. ``layers``: ``LAYER_WIDTH`` wide, each
    reads two of the layer before. ``tree``: leaves, and steps that read two, down to one.
    """
    if shape == "fan":
        return [()] * size
    if shape == "chain":
        return [(index - 1,) if index else () for index in range(size)]
    if shape == "layers":
        return [_two_above(index) for index in range(size)]
    if shape == "tree":
        return _tree((size + 1) // 2)
    raise ValueError(f"there is no shape {shape!r}; there are {', '.join(SHAPES)}")


def _two_above(index: int) -> tuple[int, ...]:
    layer, place = divmod(index, LAYER_WIDTH)
    if not layer:
        return ()
    above = (layer - 1) * LAYER_WIDTH
    return above + place, above + (place + 1) % LAYER_WIDTH


def _tree(leaves: int) -> Graph:
    made: Graph = [()] * leaves
    front = list(range(leaves))
    while len(front) > 1:
        pairs = list(zip(front[::2], front[1::2], strict=False))
        left_over = front[len(pairs) * 2 :]
        front = list(range(len(made), len(made) + len(pairs))) + left_over
        made.extend(pairs)
    return made


def below(of: Graph) -> list[list[int]]:
    """For each step the steps that read it."""
    readers: list[list[int]] = [[] for _ in of]
    for index, above in enumerate(of):
        for source in above:
            readers[source].append(index)
    return readers


def sinks(of: Graph) -> list[int]:
    """The steps that nobody reads; who has their values has run all steps."""
    return [index for index, readers in enumerate(below(of)) if not readers]


def check(of: Graph, found: list[int]) -> None:
    """Compare the values of the sinks with what a plain loop gives.

    Raises:
        AssertionError: a peer left a step out, or ran it before what it reads.
    """
    values: list[int] = []
    for above in of:
        values.append(step(*[values[source] for source in above]))
    if found != [values[index] for index in sinks(of)]:
        raise AssertionError("the values of the last steps are wrong: a step was left out or ran too early")


class Order:
    """Which steps may start, as steps end; the least that anything that runs a graph must keep."""

    def __init__(self, of: Graph) -> None:
        self._graph = of
        self._below = below(of)
        self._missing = [len(above) for above in of]
        self.values = [0] * len(of)
        self.ready = [index for index, above in enumerate(of) if not above]  #: what starts at once
        self.left = len(of)  #: steps that have not ended

    def inputs(self, index: int) -> list[int]:
        """The values that a step reads."""
        values = self.values
        return [values[source] for source in self._graph[index]]

    def end(self, index: int, value: int) -> list[int]:
        """Keep the value of a step; the steps that may start now because of it."""
        self.values[index] = value
        self.left -= 1
        missing = self._missing
        released = []
        for reader in self._below[index]:
            missing[reader] -= 1
            if not missing[reader]:
                released.append(reader)
        return released

    def check(self) -> None:
        """Raise ``AssertionError`` unless the values of the sinks are right."""
        check(self._graph, [self.values[index] for index in sinks(self._graph)])
