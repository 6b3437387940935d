"""Which files a name, a subset and a split mean, and what is refused because it could mean several."""

import os
import re
from pathlib import Path

import pytest

from data.sources.files import FileQuery, find_files, is_local
from data.sources.reading import check_disjoint, read_rows
from data.sources.split_names import RowSlice, parse_split
from pipeline.errors import InputError


def write(folder: Path, **rows: int) -> Path:
    """Files of JSON lines `{"n": ...}` by name (two underscores are a folder), with so many rows."""
    for name, count in rows.items():
        file = folder / (name.replace("__", "/") + ".jsonl")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f'{{"n": {i}}}\n' for i in range(count)))
    return folder


def names(path: object, split: str | None = None, subset: str | None = None) -> list[str]:
    """Bare names of the files that are found."""
    found = find_files(FileQuery(path=str(path), split=split, subset=subset, where="datasets[0]"))
    return [file.name.removesuffix(".jsonl") for file in found.files]


def refused(path: object, split: str | None = None, subset: str | None = None) -> str:
    with pytest.raises(InputError) as error:
        list(read_rows(find_files(FileQuery(path=str(path), split=split, subset=subset, where="datasets[0]"))))
    return str(error.value)


def test_split_names_are_exact_and_an_ambiguous_one_lists_what_is_there(tmp_path):
    shards = [f"data__{name}-00000-of-00001" for name in ("train_sft", "train_gen", "test_sft", "training_log")]
    write(tmp_path, **dict.fromkeys(shards, 2))
    assert names(tmp_path, "train_sft") == ["train_sft-00000-of-00001"]
    for split in (None, "train", "test"):
        message = refused(tmp_path, split)
        assert message.startswith("datasets[0].split: ")
        assert all(name in message for name in ("train_sft", "train_gen", "test_sft", "training_log"))


@pytest.mark.parametrize("glob", [False, True])
def test_the_training_split_is_meant_where_none_is_named(tmp_path, glob):
    write(tmp_path, **{"train-00000-of-00002": 1, "train-00001-of-00002": 1, "valid": 1, "test": 1})
    path = f"{tmp_path}/*.jsonl" if glob else tmp_path
    assert names(path) == names(path, "train") == ["train-00000-of-00002", "train-00001-of-00002"]
    assert names(path, "validation") == names(path, "valid") == ["valid"]
    assert names(path, "held_out") == names(path, "test") == ["test"]


def test_a_file_that_is_named_says_its_split_by_a_word(tmp_path):
    write(tmp_path, gsm8k_train=2, pairs_valid=1, train_of_eval=1)
    assert names(tmp_path / "gsm8k_train.jsonl", "train") == ["gsm8k_train"]
    assert names(tmp_path / "pairs_valid.jsonl", "validation[:1]") == ["pairs_valid"]
    assert "no split 'train'; it has pairs_valid" in refused(tmp_path / "pairs_valid.jsonl", "train")
    assert "no split 'train'; it has train_of_eval" in refused(tmp_path / "train_of_eval.jsonl", "train")


def test_an_alias_of_two_names_is_ambiguous(tmp_path):
    write(tmp_path, dev=1, valid=1, train=1)
    assert "several splits for validation (dev, valid)" in refused(tmp_path, "validation")
    assert names(tmp_path, "dev") == ["dev"]


def test_files_that_name_no_split_are_all_training_rows_and_nothing_else(tmp_path):
    write(tmp_path, chats=1, stories=1)
    assert names(tmp_path) == names(tmp_path, "train") == ["chats", "stories"]
    assert names(tmp_path, "stories") == ["stories"]
    assert "no split 'validation'" in refused(tmp_path, "validation")
    assert "no split 'validation'" in refused(tmp_path / "chats.jsonl", "validation")


def test_subsets_are_folders_and_several_need_a_name(tmp_path):
    write(tmp_path, think__train=1, no_think__train=1, no_think__test=1)
    assert names(tmp_path, None, "no_think") == ["train"]
    assert "several folders (no_think, think)" in refused(tmp_path)
    assert "did you mean think?" in refused(tmp_path, None, "thnik")
    assert names(f"{tmp_path}/**/train.jsonl") == ["train", "train"]
    assert "no folder" in refused(tmp_path / "think" / "train.jsonl", None, "think")


def test_a_folder_s_card_says_its_subsets_and_splits(tmp_path):
    write(tmp_path, a=1, b=2, c=3)
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: one\n  data_files: [{split: calm, path: a.*}, {split: train, path: [b.*]}]\n"
        "- config_name: two\n  data_files:\n  - {split: train, path: 'c.*'}\n---\n# Card\n"
    )
    assert names(tmp_path, "calm", "one") == ["a"]
    assert names(tmp_path, None, "one") == ["b"]
    assert names(tmp_path, None, "two") == ["c"]
    assert "has the subsets one, two; name one" in refused(tmp_path)
    assert "no subset 'three'" in refused(tmp_path, None, "three")
    assert "has no split 'lively'; it has calm, train" in refused(tmp_path, "lively", "one")


def test_what_is_no_data_is_passed_over_and_what_is_no_file_refused(tmp_path):
    write(tmp_path, train=1, __hidden__train=1)
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("not rows")
    write(tmp_path, **{".cache__train": 1})
    (tmp_path / "hidden").rename(tmp_path / ".hidden") if (tmp_path / "hidden").exists() else None
    assert names(tmp_path / "train.jsonl") == ["train"]
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "no ordinary file" in refused(tmp_path / "pipe.jsonl")
    assert "no file matches" in refused(tmp_path / "missing.csv")
    (tmp_path / "rows.xlsx").write_text("")
    assert "is none of .parquet" in refused(tmp_path / "rows.xlsx")
    (tmp_path / "train.csv").write_text("n\n1\n")
    assert "one name in two formats" in refused(tmp_path / "train.*")


@pytest.mark.parametrize(
    ("asked", "rows", "bounds"),
    [
        ("[:10%]", 15, (0, 2)),  # 1.5 rows
        ("[:10%]", 4, None),  # 0.4 rows
        ("[50%:]", 3, (2, 3)),
        ("[2:4]", 5, (2, 4)),
        ("[-2:]", 5, (3, 5)),
        ("[:-1]", 5, (0, 4)),
        ("[:]", 5, (0, 5)),
        ("[:9]", 5, None),
        ("[3:2]", 5, None),
    ],
)
def test_slices_by_hand(asked, rows, bounds):
    name, part = parse_split(f"train{asked}", "here")
    assert name == "train"
    if bounds is None:
        with pytest.raises(InputError, match="here: "):
            part.bounds(rows, "here")
    else:
        assert (part or RowSlice(None, None)).bounds(rows, "here") == bounds


@pytest.mark.parametrize("split", ["train+test", "train[", "train[1]", "train[a:b]", ""])
def test_what_is_no_split_is_refused(split):
    with pytest.raises(InputError, match=re.escape(f"here: {split!r} is no split")):
        parse_split(split, "here")


def test_a_slice_goes_over_the_files_of_a_split(tmp_path):
    write(tmp_path, **{"train-00000-of-00002": 3, "train-00001-of-00002": 3})
    found = find_files(FileQuery(path=str(tmp_path), split="train[2:5]"))
    assert [(place.rpartition("/")[2], row["n"]) for place, row in read_rows(found)] == [
        ("train-00000-of-00002.jsonl:3", 2),
        ("train-00001-of-00002.jsonl:1", 0),
        ("train-00001-of-00002.jsonl:2", 1),
    ]


def test_rows_say_their_split_where_files_do_not(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("split,n\ntrain,1\ndev,2\ntest,3\ntrain,4\n")
    chosen = {
        split: [row["n"] for _, row in read_rows(find_files(FileQuery(path=str(file), split=split)))]
        for split in ("train", "validation", None, "train[1:]")
    }
    assert chosen == {"train": ["1", "4"], "validation": ["2"], None: ["1", "2", "3", "4"], "train[1:]": ["4"]}
    assert "no row of" in refused(file, "lively")


def test_held_out_rows_are_no_training_rows(tmp_path):
    write(tmp_path, train=10, test=5)
    (tmp_path / "rows.csv").write_text("split,n\ntrain,1\ntest,3\n")

    def chosen(path: Path, split: str | None):
        return find_files(FileQuery(path=str(path), split=split))

    check_disjoint(chosen(tmp_path / "train.jsonl", None), chosen(tmp_path / "test.jsonl", None))
    check_disjoint(chosen(tmp_path / "train.jsonl", "train[:80%]"), chosen(tmp_path / "train.jsonl", "train[8:]"))
    check_disjoint(chosen(tmp_path / "rows.csv", "train"), chosen(tmp_path / "rows.csv", "test"))
    for one, other in [(None, "train"), ("train[:80%]", "train[7:]"), ("train[:80%]", None)]:
        with pytest.raises(InputError, match="training rows as well"):
            check_disjoint(chosen(tmp_path / "train.jsonl", one), chosen(tmp_path / "train.jsonl", other))


def test_fingerprints_are_of_bytes(tmp_path):
    write(tmp_path, a=3)
    file = tmp_path / "a.jsonl"
    found = find_files(FileQuery(path=str(file)))
    before, status = found.fingerprint(), file.stat()
    file.write_text(file.read_text().replace("2", "5"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert found.fingerprint() != before
    assert find_files(FileQuery(path=str(file), split="train[:1]")).fingerprint() != found.fingerprint()


def test_names_of_files_are_told_from_names_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    local = ["./x", "/x", "~/x", "rows.csv", "a/b.txt.gz", "a/*.parquet", "a/b/c", "mine"]
    assert [name for name in local if not is_local(name)] == []
    assert [name for name in ("squad", "owner/name", "owner/name.v2") if is_local(name)] == []
