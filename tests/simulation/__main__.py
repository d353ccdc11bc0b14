"""``python -m tests.simulation``: replay a seed, explore longer, or explore one small world whole."""

import argparse
import sys
from collections.abc import Callable
from typing import Final

from tests.simulation.explorer import BrokenPromise, Exploration, walk
from tests.simulation.settings import LONG, SMALL, careful, large, small
from tests.simulation.story import story
from tests.simulation.world import Setting

STEPS: Final = 400
LARGE: Final[dict[str, Callable[[], Setting]]] = {"large": large, "careful": careful}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay the walk of this seed as a numbered story")
    parser.add_argument("--world", choices=sorted(LARGE), default="large", help="which large world the walk is in")
    parser.add_argument("--walks", type=int, help="take so many walks in both large worlds")
    parser.add_argument("--first", type=int, default=0, help="seed of the first of them")
    parser.add_argument("--steps", type=int, default=STEPS, help="how long each walk is disturbed")
    parser.add_argument("--small", choices=sorted({**SMALL, **LONG}), help="explore this small world, whole")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.small:
            sys.stdout.write(f"{chosen.small}: {Exploration(small(chosen.small)).run()}\n")
        elif chosen.walks:
            _explore(range(chosen.first, chosen.first + chosen.walks), chosen.steps)
        else:
            trace = walk(LARGE[chosen.world](), chosen.seed or 0, chosen.steps)
            sys.stdout.write(f"{story(trace)}\n{len(trace.actions)} actions; every promise held\n")
    except BrokenPromise as broken:
        sys.stdout.write(f"{broken}\n")
        return 1
    return 0


def _explore(seeds: range, steps: int) -> None:
    actions = 0
    for seed in seeds:
        for world in LARGE.values():
            actions += len(walk(world(), seed, steps).actions)
    sys.stdout.write(f"{2 * len(seeds)} walks, {actions} actions; every promise held\n")


if __name__ == "__main__":
    sys.exit(main())
