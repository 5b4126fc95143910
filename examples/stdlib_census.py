"""Counts what the standard library of the running Python is made of, one asset per package.

Shows: assets made in a loop; an asset that reads many others; a tag limit that keeps the large packages from running
at the same time (they need the most memory) while small ones go on; priority; files written by the last steps.

Run it:  executor run examples/stdlib_census.py
It writes census.json and census.svg into the current folder.
"""

import ast
import json
import sys
import sysconfig
import warnings
from html import escape
from pathlib import Path

from executor import AssetIn, Definitions, asset, define_asset_job, multiprocess_executor

STDLIB = Path(sysconfig.get_paths()["stdlib"])
LARGE_BYTES = 1_500_000  # of source
FILES_PER_PART = 150  # a package with more files is counted in parts
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match, ast.AsyncFor, ast.AsyncWith)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


# --- the input: which files belong to which group ---------------------------------------------------------------------


def source_groups() -> dict[str, list[Path]]:
    """Every top-level package with its files, and the single modules by their first letter."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(STDLIB.iterdir()):
        if path.suffix == ".py":
            first = path.stem.lstrip("_")[:1].lower()
            group = "modules_a_to_h" if first < "i" else "modules_i_to_p" if first < "q" else "modules_q_to_z"
            groups.setdefault(group, []).append(path)
        elif (path / "__init__.py").exists():
            files = sorted(path.rglob("*.py"))
            parts = [files[start : start + FILES_PER_PART] for start in range(0, len(files), FILES_PER_PART)]
            for number, part in enumerate(parts, 1):
                groups[path.name if len(parts) == 1 else f"{path.name}_part{number}"] = part
    return groups


# --- counting one group -----------------------------------------------------------------------------------------------


def count_file(path: Path) -> dict:
    """Lines, functions, classes, deepest nesting and longest function of one file."""
    source = path.read_bytes()
    module = ".".join(path.relative_to(STDLIB).with_suffix("").parts).removesuffix(".__init__")
    count = {"lines": source.count(b"\n"), "functions": 0, "classes": 0, "depth": 0, "longest": (0, "")}
    try:
        with warnings.catch_warnings(action="ignore"):  # of what newer Pythons find in it
            todo = [(node, 0) for node in ast.parse(source).body]
    except (SyntaxError, ValueError):  # the library holds files that are wrong on purpose, for its own tests
        return count | {"unparsed": 1}
    while todo:
        node, depth = todo.pop()
        if isinstance(node, FUNCTIONS):
            count["functions"] += 1
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            count["longest"] = max(count["longest"], (length, f"{module}.{node.name}"))
        elif isinstance(node, ast.ClassDef):
            count["classes"] += 1
        inside = depth + isinstance(node, BLOCKS)
        count["depth"] = max(count["depth"], inside)
        chain = (
            node.orelse if isinstance(node, ast.If) and len(node.orelse) == 1 else []
        )  # elif is no deeper than its if
        todo += [
            (child, depth if child in chain and isinstance(child, ast.If) else inside)
            for child in ast.iter_child_nodes(node)
            if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case)
        ]
    return count | {"unparsed": 0}


def count_group(files: list[Path]) -> dict:
    """The counts of many files, added up."""
    counts = [count_file(path) for path in files]
    total = {name: sum(count[name] for count in counts) for name in ("lines", "functions", "classes", "unparsed")}
    return total | {
        "files": len(files),
        "depth": max(count["depth"] for count in counts),
        "longest": max(count["longest"] for count in counts),
    }


# --- the assets -------------------------------------------------------------------------------------------------------


def group_asset(name: str, files: list[Path]):
    large = sum(path.stat().st_size for path in files) > LARGE_BYTES
    size, priority = ("large", 1) if large else ("small", 0)  # large ones first, so that none is left over at the end

    @asset(name=name, description=f"{len(files)} files of the library", op_tags={"size": size}, priority=priority)
    def counted() -> dict:
        return count_group(files)

    return counted


groups = [group_asset(name, files) for name, files in source_groups().items()]


@asset(ins={group.key: AssetIn(group.key) for group in groups})
def census(**counted: dict) -> dict:
    """All counts by package, as census.json."""
    packages: dict[str, dict] = {}
    for name, count in counted.items():
        package = name.partition("_part")[0]
        packages[package] = added(packages[package], count) if package in packages else count
    result = {"python": sys.version.split()[0], "packages": packages, "total": None}
    for count in packages.values():
        result["total"] = added(result["total"], count) if result["total"] else count
    Path("census.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def added(one: dict, other: dict) -> dict:
    """Two counts as one."""
    return {
        name: max(one[name], other[name]) if name in ("depth", "longest") else one[name] + other[name] for name in one
    }


@asset
def chart(census: dict) -> str:
    """A picture of the census, as census.svg."""
    path = Path("census.svg").resolve()
    path.write_text(draw(census))
    total = census["total"]
    print(f"{total['lines']:,} lines in {total['files']:,} files, {total['functions']:,} functions: see {path}")
    return str(path)


# --- the picture ------------------------------------------------------------------------------------------------------

WIDTH, HEIGHT, MAP_WIDTH, TOP = 1240, 780, 800, 96
PALE, DEEP = (222, 235, 247), (8, 48, 107)
INK, GREY = "#1f2933", "#52606d"


def squares(items: list[tuple[str, float]], x: float, y: float, width: float, height: float) -> list[tuple]:
    """A treemap: each item as (name, x, y, width, height), with its share of the area and as square as can be.

    ``items`` come largest first; rows are filled while that makes their cells more square.
    """
    placed = []
    scale = width * height / sum(size for _, size in items)
    while items:
        side, row, best = min(width, height), 0, float("inf")
        for number in range(1, len(items) + 1):
            areas = [size * scale for _, size in items[:number]]
            thickness = sum(areas) / side
            worst = max(max(area / thickness**2, thickness**2 / area) for area in areas)
            if worst > best:
                break
            row, best = number, worst
        thickness, along = sum(size for _, size in items[:row]) * scale / side, 0.0
        for name, size in items[:row]:
            length = size * scale / thickness
            if width >= height:
                placed.append((name, x, y + along, thickness, length))
            else:
                placed.append((name, x + along, y, length, thickness))
            along += length
        if width >= height:
            x, width = x + thickness, width - thickness
        else:
            y, height = y + thickness, height - thickness
        items = items[row:]
    return placed


def shade(share: float) -> str:
    return "rgb({},{},{})".format(*(round(pale + (deep - pale) * share) for pale, deep in zip(PALE, DEEP, strict=True)))


def text(x: float, y: float, words: str, size: int, *, fill: str = INK, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}"{weight}>{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, fill: str, *, round_px: int = 0) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(0.5, width):.1f}" height="{max(0.5, height):.1f}"'
    return f'<rect {place} rx="{round_px}" fill="{fill}"/>'


def draw(census: dict) -> str:
    """An SVG: packages as areas, darker where functions are longer, and beside it the longest functions."""
    total = census["total"]
    words = (
        f"{total['lines']:,} lines in {total['files']:,} files: {total['functions']:,} functions, "
        f"{total['classes']:,} classes, blocks nested up to {total['depth']} deep"
    )
    frame = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {frame} font-family="Helvetica, Arial, sans-serif">',
            box(0, 0, WIDTH, HEIGHT, "#ffffff"),
            text(24, 42, f"The standard library of Python {census['python']}", 26, bold=True),
            text(24, 70, words, 15, fill=GREY),
            *draw_map(census["packages"]),
            *draw_longest(census["packages"]),
            "</svg>\n",
        ]
    )


def draw_map(packages: dict) -> list[str]:
    low, high = 8.0, 40.0  # lines per function at the two ends of the scale
    sizes = sorted(
        ((name, count["lines"]) for name, count in packages.items() if count["lines"]), key=lambda item: -item[1]
    )
    parts = []
    for name, x, y, width, height in squares(sizes, 24, TOP, MAP_WIDTH, HEIGHT - TOP - 60):
        count = packages[name]
        lines = f"{count['lines']:,} lines"
        mean = count["lines"] / max(1, count["functions"])
        share = min(1.0, max(0.0, (mean - low) / (high - low)))
        ink = "#ffffff" if share > 0.4 else INK
        parts += [
            f"<g><title>{escape(name)}: {lines}, {count['functions']:,} functions</title>",
            box(x + 1, y + 1, width - 2, height - 2, shade(share), round_px=3),
        ]
        if width > 8.6 * len(name) + 10 and height > 24:
            parts.append(text(x + 8, y + 19, name, 13, fill=ink, bold=True))
            if height > 42 and width > 7.2 * len(lines) + 10:
                parts.append(text(x + 8, y + 36, lines, 12, fill=ink))
        parts.append("</g>")
    parts += [box(24 + step * 5, HEIGHT - 42, 5.5, 12, shade(step / 39)) for step in range(40)]
    legend = f"lines per function, from {low:.0f} (pale) to {high:.0f} and more (dark); area: lines of source"
    return [*parts, text(236, HEIGHT - 32, legend, 12, fill=GREY)]


def draw_longest(packages: dict) -> list[str]:
    left, room = MAP_WIDTH + 64, WIDTH - MAP_WIDTH - 134
    longest = sorted((tuple(count["longest"]) for count in packages.values()), reverse=True)[:15]
    parts = [text(left, TOP + 14, "The longest function of each, in lines", 16, bold=True)]
    for number, (length, name) in enumerate(longest):
        y, width = TOP + 34 + number * 41, room * length / max(1, longest[0][0])
        parts += [
            text(left, y + 12, name, 13),
            box(left, y + 18, width, 12, shade(0.65), round_px=2),
            text(left + width + 8, y + 29, f"{length:,}", 12, fill=GREY),
        ]
    return parts


stdlib_census = define_asset_job(
    "stdlib_census",
    selection="*",
    description="What the standard library of this Python is made of",
    executor_def=multiprocess_executor.configured(
        {"tag_concurrency_limits": [{"key": "size", "value": "large", "limit": 1}]}
    ),
)

defs = Definitions(assets=[*groups, census, chart], jobs=[stdlib_census])

# It prints one line per event, and at the end something like this (the numbers are those of your Python):
#
#   run succeeded after 8.1 s: 43 succeeded
#     steps ran for 11.2 s in all, with 10.6 s of CPU; largest 56 MiB (test_part5)
#     critical path 1.7 s: test_part2 > census > chart
#     waits of all steps: 36.3 s tag size=large, 31.8 s max_concurrent
