"""From facts to the README that the Hub shows: dataset cards and model cards."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.redaction import redact_text


def _table(rows: Mapping[str, Any], head: tuple[str, str]) -> str:
    def show(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")

    lines = [f"| {head[0]} | {head[1]} |", "|---|---:|", *(f"| {k} | {show(v)} |" for k, v in rows.items())]
    return "\n".join(lines)


def model_card(
    *,
    name: str,
    stage: str,
    summary: str,
    base_model: str | None,
    datasets: Sequence[str],
    recipe: Mapping[str, Any],
    figures: Mapping[str, Any],
    license: str = "apache-2.0",
    tags: Sequence[str] = (),
    hub_datasets: Sequence[str] = (),
    command: str | None = None,
) -> str:
    """The text of a model card: what stage made the weights, from what, how, and what was measured.

    `base_model` and `hub_datasets` go into the YAML head only as Hub ids (the Hub refuses local paths there).
    """
    from huggingface_hub import ModelCard, ModelCardData

    is_hub_id = base_model is not None and base_model.count("/") == 1 and not base_model.startswith((".", "/"))
    data = ModelCardData(
        language="en",
        license=license,
        library_name="transformers",
        base_model=base_model if is_hub_id else None,
        datasets=list(hub_datasets) or None,
        tags=["trlm", stage, *tags],
    )
    made_from = ", ".join(f"`{d}`" for d in datasets) or "none"
    body = [
        f"# {name}",
        summary,
        f"Stage: **{stage}**. Base: `{base_model or 'from scratch'}`. Data: {made_from}.",
        "## Figures",
        _table(figures, ("figure", "value")) if figures else "None were measured.",
        "## Recipe",
        _table(recipe, ("setting", "value")),
    ]
    if command:
        body += ["## How it was made", f"```sh\n{command}\n```"]
    return str(ModelCard(redact_text(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n")))


def dataset_card(
    *,
    name: str,
    description: str,
    sources: Sequence[Mapping[str, Any]],
    configs: Sequence[Mapping[str, Any]],
    dataset_info: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    rows: int,
    license: str | None = None,
    tags: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """The text of a dataset card. `sources` rows need dataset, subset, split, requested, actual, share.

    `configs` are the Hub's data_files sections (`{config_name, data_files: [{split, path}]}`), `dataset_info` its
    section of columns and sizes, one for all or one a configuration.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    sizes = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M"]
    size = sizes[min(max(len(str(max(rows, 1))) - 3, 0), len(sizes) - 1)]
    names = list(dict.fromkeys(str(s["dataset"]) for s in sources))
    data = DatasetCardData(
        language="en",
        license=license,
        pretty_name=name,
        size_categories=[size],
        source_datasets=[f"extended|{n}" for n in names if n.count("/") == 1 and not n.startswith((".", "/"))] or None,
        tags=["trlm", *tags],
        configs=list(configs),
        dataset_info=dataset_info,
        num_rows=rows,
        sources=[dict(s) for s in sources],
    )
    head = "| source | subset | split | asked | rows | share |\n|---|---|---|---:|---:|---:|"
    lines = []
    for source in sources:
        asked = "all" if source["requested"] is None else f"{source['requested']:,}"
        where = f"{source['dataset']} | {source['subset'] or ''} | {source['split']}"
        lines.append(f"| {where} | {asked} | {source['actual']:,} | {source['share']:.1%} |")
    body = [f"# {name}", description, f"{rows:,} rows from {len(sources)} sources.", "\n".join([head, *lines]), *notes]
    return str(DatasetCard(redact_text(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n")))
