"""What is to be seen in an SVG: its texts, and the points of its paths."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET


def texts(svg: str) -> dict[str, tuple[float, float]]:
    """The texts and where they are written; of a text that is there twice the last."""
    return {
        each.text or "": (float(each.get("x", "").split()[0]), float(each.get("y", "")))
        for each in ET.fromstring(svg).iterfind(".//{*}text")
    }


def paths(svg: str, **attributes: str) -> list[str]:
    """The paths with such attributes, in the order in which they are drawn."""
    wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
    return [
        each.get("d", "")
        for each in ET.fromstring(svg).iterfind(".//{*}path")
        if wanted.items() <= each.attrib.items()
    ]


def stretches(path: str) -> list[list[tuple[float, float]]]:
    """The points of each part of a path of straight lines."""
    return [_points(part) for part in path.split("M")[1:]]


def _points(part: str) -> list[tuple[float, float]]:
    x, y = 0.0, 0.0
    points = []
    for letter, numbers in re.findall(r"([Mlhv]?)([-. \d]+)", "M" + part):
        values = [float(number) for number in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", numbers)]
        steps = {"h": [(values[0], 0.0)], "v": [(0.0, values[0])]}.get(letter) or [
            (values[at], values[at + 1]) for at in range(0, len(values), 2)
        ]
        for across, down in steps:
            x, y = round(x + across, 1), round(y + down, 1)
            points.append((x, y))
    return points
