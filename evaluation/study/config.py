"""What a study is: parts, variants and the runs that they ask for (evaluation/config/study.yaml)."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.ranges import NamedPath, PositiveInt, Seed, Text

DEFAULT_SCRIPT = "mrl/train.py"
INHERITED = ("start", "like", "config", "data", "sampled", "compare_with", "data_folder")
"""What a variant takes from the one it is based on where it says nothing itself."""


@dataclass(kw_only=True)
class Variant:
    """One way of training: a script, its recipe, and what is set otherwise."""

    script: str = DEFAULT_SCRIPT
    config: str | None = None
    """Default: the study's `config`."""
    settings: list[str] = field(default_factory=list)
    """key=value as for --set. `{minutes}` stands for the training time of `like`."""
    start: str | None = None
    """part/variant whose model this one starts from. Default: the study's `start`."""
    based_on: str | None = None
    """part/variant that this one is, but for what it says itself; its own settings come after that one's."""
    like: str | None = None
    """part/variant whose wall time this one gets."""
    seeds: list[Seed] = field(default_factory=lambda: [42])
    data: str | None = None
    """Held-out episodes. Default: the study's."""
    data_folder: str | None = None
    """Folder of the rows that are learnt from. Default: the study's."""
    compare_with: str | None = None
    """Folder of a model that the run starts from instead of the study's, and with whose answers its own are compared
    (evaluation/preferences.py); recall by distance isn't measured then."""
    sampled: bool = False
    """Measured again with answers drawn at temperature 1, as they are in free generation."""
    same_as: str | None = None
    """part/variant of which this is only another name: it isn't run again."""

    def needs(self) -> list[str]:
        """part/variants of which the first run has to be finished before those of this one can start."""
        return [other for other in (self.start, self.like) if other]


@dataclass(kw_only=True)
class StudyConfig:
    """evaluation/config/study.yaml."""

    output_dir: NamedPath
    start: Text
    """The supervised model that runs start from."""
    config: Text
    data_folder: Text
    data: Text
    """Held-out episodes that every run is measured on."""
    parts: dict[str, dict[str, Variant]]
    data_configs: dict[str, str] = field(default_factory=dict)
    """Folders of rows with the blend's YAML that each is made from before a run learns from it. Others must exist."""
    usual: list[str] = field(default_factory=list)
    """Parts that are done where none is named. Default: all of them."""
    settings: list[str] = field(default_factory=list)
    """key=value for every run of mrl/train.py, before the variant's own."""
    episodes: PositiveInt | None = None
    """At most so many held-out episodes."""

    def __post_init__(self) -> None:
        for path, variant in self.variants():
            self._check_names(f"parts.{path.replace('/', '.')}", variant)
        self.parts = {
            part: {name: self._complete(variant) for name, variant in variants.items()}
            for part, variants in self.parts.items()
        }
        for path, _ in self.variants():
            self.runs_before(path)
        for part in self.usual:
            if part not in self.parts:
                raise ValueError(f"usual: there is no part {part}; there are {', '.join(self.parts)}")
        unread = {*self.data_configs} - {variant.data_folder for _, variant in self.variants()}
        if unread:
            raise ValueError(f"data_configs: no variant has the data_folder {min(unread)}")

    def _check_names(self, where: str, variant: Variant) -> None:
        """ValueError where a variant names another that isn't there or can't be meant."""
        for path in filter(None, (variant.start, variant.like, variant.same_as, variant.based_on)):
            if not self.has(path):
                raise ValueError(f"{where} names {path}, which is no part/variant of this study")
            if self.variant(path).same_as:
                raise ValueError(f"{where} names {path}, which is another's name: take that one")
        if variant.compare_with and (variant.start or variant.sampled):
            raise ValueError(f"{where}: compare_with names the start and what is measured; leave out start and sampled")
        if variant.based_on and self.variant(variant.based_on).based_on:
            raise ValueError(f"{where} is based on {variant.based_on}, which is based on another")

    def _complete(self, variant: Variant) -> Variant:
        """A variant with what it takes from the one it is based on."""
        if not variant.based_on:
            return variant
        base = self.variant(variant.based_on)
        taken = {name: getattr(variant, name) or getattr(base, name) for name in INHERITED}
        script = base.script if variant.script == DEFAULT_SCRIPT else variant.script
        settings = [*base.settings, *variant.settings]
        return replace(variant, **taken, script=script, settings=settings, based_on=None)

    def variants(self) -> Iterator[tuple[str, Variant]]:
        """Every variant with its part/name."""
        for part, variants in self.parts.items():
            for name, variant in variants.items():
                yield f"{part}/{name}", variant

    def has(self, path: str) -> bool:
        """Whether there is a variant part/name."""
        part, _, name = path.partition("/")
        return name in self.parts.get(part, {})

    def variant(self, path: str) -> Variant:
        """A variant by part/name, which must be there."""
        part, _, name = path.partition("/")
        return self.parts[part][name]

    def runs_before(self, path: str, seen: tuple[str, ...] = ()) -> int:
        """How many runs, one after another, come before a variant's. Raises ValueError where that never ends."""
        if path in seen:
            raise ValueError(f"parts: {' waits for '.join((*seen, path))}")
        needed = self.variant(path).needs()
        return max((1 + self.runs_before(other, (*seen, path)) for other in needed), default=0)

    def jobs(self, path: str) -> list["Job"]:
        """The runs of part/variant, one for each seed."""
        part, _, name = path.partition("/")
        return [Job(part, name, seed) for seed in self.variant(path).seeds]

    def first_folder(self, path: str) -> Path:
        """Where the first seed's run of part/variant lies."""
        return self.jobs(path)[0].folder(self)

    def start_of(self, path: str) -> tuple[Path, str]:
        """The folder with the figures of what part/variant starts from, on the episodes that its runs are measured on;
        and those episodes."""
        variant = self.variant(path)
        data = variant.data or self.data
        if not variant.start:
            return self.start_folder(data), data
        source = self.first_folder(variant.start)
        usual = data == (self.variant(variant.start).data or self.data)
        return (source if usual else source / f"on-{Path(data).name}"), data

    def start_folder(self, data: str | None) -> Path:
        """Where the start's figures on some episodes lie; None: the study's own episodes."""
        return self.output_dir / ("start" if data in (None, self.data) else f"start-{Path(data).name}")


@dataclass(frozen=True)
class Job:
    """One run: a variant with a seed."""

    part: str
    name: str
    seed: int

    @property
    def path(self) -> str:
        """part/name of the variant."""
        return f"{self.part}/{self.name}"

    def folder(self, study: StudyConfig) -> Path:
        """Where the run writes."""
        return study.output_dir / "runs" / self.part / f"{self.name}-seed{self.seed}"
