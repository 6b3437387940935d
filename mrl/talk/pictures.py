"""What the page shows beside the dialogue, as HTML with SVG: heat maps, curves, answers side by side. No script, and
nothing that is fetched; colours are those of the page, light or dark."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import torch
from torch import Tensor

from mrl.talk.session import Comparison, Session, Turn

CELL, LABEL = 16, 66
COLOURS = ("#2f6db3", "#d1742f")
CSS = """
.trace {margin: 0 0 1rem; font-size: 0.85rem}
.trace h4 {margin: 0 0 0.2rem; font-size: 0.95rem}
.trace p {margin: 0 0 0.4rem; opacity: 0.75}
.trace svg {display: block; width: 100%; height: auto}
.trace svg text {fill: currentColor; font-size: 10px}
.trace .cell {stroke: currentColor; stroke-opacity: 0.12}
.trace table {width: 100%; border-collapse: collapse}
.trace th, .trace td {text-align: left; vertical-align: top; padding: 0.25rem 0.5rem; border: 0 !important;
  border-bottom: 1px solid rgba(128, 128, 128, 0.35) !important}
.trace .differs {background: rgba(209, 116, 47, 0.18)}
.word {padding: 0.5rem 0.8rem; border-left: 4px solid #2f6db3; background: rgba(47, 109, 179, 0.12)}
.word.refused {border-color: #c0392b; background: rgba(192, 57, 43, 0.14)}
footer {display: none !important}
"""


def heat_map(values: Tensor, rows: Sequence[str], name: str) -> str:
    """Values [rows, S] of 0 and more as an SVG, the largest in the strongest colour; a cell tells its number."""
    top = float(values.max()) or 1.0
    slots = values.shape[1]
    width, height = LABEL + CELL * max(slots, 16), CELL * (len(rows) + 1)
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(name)}">']
    for r, (label, line) in enumerate(zip(rows, values.tolist(), strict=True)):
        parts.append(f'<text x="{LABEL - 4}" y="{CELL * r + 12}" text-anchor="end">{escape(label)}</text>')
        for s, value in enumerate(line):
            parts.append(
                f'<rect class="cell" x="{LABEL + CELL * s}" y="{CELL * r}" width="{CELL}" height="{CELL}" '
                f'fill="{COLOURS[0]}" fill-opacity="{value / top:.3f}"><title>{escape(label)}, slot {s + 1}: '
                f"{value:.3f}</title></rect>"
            )
    below = CELL * len(rows) + 12
    parts.append(f'<text x="{LABEL}" y="{below}">slot 1</text>')
    end = LABEL + CELL * slots
    parts.append(f'<text x="{end}" y="{below}" text-anchor="end">{slots} · strongest {top:.2f}</text></svg>')
    return "".join(parts)


def curves(lines: Mapping[str, Sequence[float | None]], unit: str, name: str) -> str:
    """Values over turns as an SVG, a line each, from 0 up; gaps where there is none."""
    known = [v for line in lines.values() for v in line if v is not None]
    turns = max(len(line) for line in lines.values())
    top = max(known, default=0.0) or 1.0
    width, height, left, right = 330, 110, 48, 8
    step = (width - left - right) / max(1, turns - 1)
    parts = [f'<svg viewBox="0 0 {width} {height + 30}" role="img" aria-label="{escape(name)}">']
    for share in (0.0, 1.0):
        y = height - share * (height - 14)
        parts.append(f'<path d="M{left} {y}H{width - right}" stroke="currentColor" stroke-opacity="0.2"/>')
        label = f"{share * top:,.0f} {unit}" if top >= 10 else f"{share * top:.2f} {unit}"
        parts.append(f'<text x="{left - 4}" y="{y + 3}" text-anchor="end">{label}</text>')
    for place, ((label, line), colour) in enumerate(zip(lines.items(), COLOURS, strict=True)):
        points = [
            (left + k * step, height - v / top * (height - 14), v, k) for k, v in enumerate(line) if v is not None
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"><title>turn {k + 1}: {v:,.1f} {unit}</title>'
            "</circle>"
            for x, y, v, k in points
        ]
        x = left + place * 110
        parts.append(f'<rect x="{x}" y="{height + 14}" width="9" height="9" fill="{colour}"/>')
        parts.append(f'<text x="{x + 13}" y="{height + 22}">{escape(label)}</text>')
    return "".join(parts) + "</svg>"


def block(title: str, note: str, body: str) -> str:
    """A titled picture with a line on what it shows."""
    return f'<div class="trace"><h4>{escape(title)}</h4><p>{escape(note)}</p>{body}</div>'


def memory_pictures(session: Session, number: int) -> str:
    """What turn `number` (from 1) moved and read, what every turn moved, and sizes and times over the turns."""
    if not session.turns:
        return block("The memory", "Say something: what it does to the memory shows here.", "")
    turn: Turn = session.turns[number - 1]
    layers = [f"layer {k}" for k in session.layers]
    every = torch.stack([t.moved.mean(0) for t in session.turns])
    numbers = [f"turn {k}" for k in range(1, len(session.turns) + 1)]
    return (
        block(
            f"Turn {number} moved", "Distance between old and new slot over both lengths: 0 is left alone.",
            heat_map(turn.moved, layers, "what the turn moved"),
        )
        + block(
            "Its answer read",
            "Attention to each slot while the answer was said; a layer's sum to 1, or to less where tokens share it.",
            heat_map(turn.read, layers, "which slots the answer read"),
        )
        + block("Every turn moved", "The mean of the layers.", heat_map(every, numbers, "what every turn moved"))
        + costs(session)
    )  # fmt: skip


def costs(session: Session) -> str:
    """Size of the memory against the cache of a decoder that keeps everything, and times to the first token."""
    sizes = {
        "memory": [session.state_bytes / 1e3] * len(session.turns),
        "cache of the whole history": [session.cache_bytes(turn) / 1e3 for turn in session.turns],
    }
    times = {
        "from memory": [turn.reply.first_ms for turn in session.turns],
        "reading everything again": [turn.history_ms for turn in session.turns],
    }
    note = "The cache that this decoder would keep without a memory: computed from its sizes, four bytes a number."
    if session.state.slots.element_size() != 4:
        note = note.replace("four", str(session.state.slots.element_size()))
    text = block("Size before each answer", note, curves(sizes, "kB", "sizes"))
    if any(t is not None for t in times["from memory"]):
        note = "Measured here; the other line is the same decoder, without its memory, on all turns so far."
        text += block("Time to the first token", note, curves(times, "ms", "times"))
    return text


def side_by_side(title: str, heads: tuple[str, str], comparisons: Iterable[Comparison]) -> str:
    """Answers from two memories in two columns; where they differ, the row is marked."""
    rows = []
    for c in comparisons:
        differs = ' class="differs"' if c.before != c.after else ""
        cells = "".join(f"<td>{escape(text)}</td>" for text in (f"{c.turn}. {c.query}", c.before, c.after))
        rows.append(f"<tr{differs}>{cells}</tr>")
    head = "".join(f"<th>{escape(text)}</th>" for text in ("asked", *heads))
    return block(title, "", f"<table><tr>{head}</tr>{''.join(rows)}</table>")


def word(text: str, refused: bool = False) -> str:
    """A line of the page's own."""
    return f'<div class="word{" refused" if refused else ""}" role="status">{escape(text)}</div>' if text else ""
