"""The cache's entries: found, checked, rebuilt, bounded, cleared, and whole whatever happens."""

import os
import resource
from collections.abc import Callable
from pathlib import Path

import forks
import pytest
from pattern_videos import make_video

from mmact_tiny.cache.cache import CacheFullError, ClipCache, default_root
from mmact_tiny.cache.clip import ClipReader
from mmact_tiny.cache.encode import ClipError
from mmact_tiny.errors import UserError


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_video(tmp_path / "videos" / "a.mp4", size=(320, 180))


@pytest.fixture
def cache(tmp_path: Path) -> ClipCache:
    return ClipCache(tmp_path / "cache")


def entry_of(cache: ClipCache, video: Path | str) -> Path | None:
    return found[0] if (found := cache.find(video)) else None


def files(root: Path) -> list[str]:
    """Returns the cache's entries and what lies in tmp/, without the remembered hashes."""
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(path.parts[0] for path in found if path.parts[0] != "sources")


def test_an_entry_of_each_setting_is_built_once(cache, video):
    assert entry_of(cache, video) is None
    entry = cache.build(video)
    before = entry.stat()
    assert entry_of(cache, video) == entry == cache.build(video)
    assert ClipCache(cache.root).build(video) == entry
    assert entry.stat().st_mtime_ns == before.st_mtime_ns
    assert files(cache.root) == ["small-256-v1"]
    assert cache.num_bytes() == before.st_size
    for settings in (dict(format="fast"), dict(short_side=128)):
        ClipCache(cache.root, **settings).build(video)  # type: ignore[arg-type]
    assert files(cache.root) == ["fast-256-v1", "small-128-v1", "small-256-v1"]


def test_names_do_not_matter_and_content_does(cache, video):
    entry = cache.build(video)
    for name in ("with spaces.mp4", "quote's \".mp4", "видео 動画.mp4", "no_suffix"):
        copy = video.with_name(name)
        copy.write_bytes(video.read_bytes())
        assert entry_of(cache, copy) == entry
        link = video.with_name(f"link to {name}")
        link.symlink_to(copy)
        assert entry_of(cache, link) == entry
    odd = make_video(video.with_name('кот\'s "film" 1.mp4'), size=(320, 180), num_frames=9)
    found = cache.find(odd) if cache.build(odd) else None
    assert found is not None
    assert found[1].num_frames == 9 and found[0] != entry


def test_a_changed_source_gets_a_new_entry(cache, video):
    old = cache.build(video)
    make_video(video, size=(320, 180), num_frames=7)
    assert entry_of(cache, video) is None
    new = cache.build(video)
    found = cache.find(video)
    assert new != old and found is not None and found[1].num_frames == 7


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "other"])
def test_a_broken_entry_is_rebuilt(cache, video, damage):
    entry = cache.build(video)
    whole = entry.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    other = cache.build(make_video(video.with_name("b.mp4"), size=(320, 180), num_frames=5))
    content = {"cut": whole[:-9], "flipped": bytes(flipped), "emptied": b""}
    entry.write_bytes(content.get(damage, other.read_bytes()))
    for reader in (cache, ClipCache(cache.root)):  # also one that has seen the whole entry
        assert entry_of(reader, video) is None
    assert cache.build(video).read_bytes() == whole


def test_what_was_broken_in_memory_of_hashes_is_read_again(cache, video):
    entry = cache.build(video)
    for note in (cache.root / "sources").rglob("*/*"):
        note.write_text("")
    assert entry_of(ClipCache(cache.root), video) == entry


def in_process(work: Callable[[], object]) -> Callable[[], str]:
    """Starts work in a forked process; returns what waits for it and gives its result in words."""
    answers = forks.FORK.SimpleQueue()

    def run() -> None:
        try:
            answers.put(str(work()))
        except UserError as error:
            answers.put(str(error))

    process = forks.start(run)

    def wait() -> str:
        process.join(timeout=120)
        assert process.exitcode == 0
        return answers.get()

    return wait


def test_two_processes_build_at_once(cache, video):
    videos = [video]
    videos += [make_video(video.with_name(f"{i}.mp4"), num_frames=5 + i) for i in range(3)]
    ready = forks.FORK.Barrier(2)

    def build() -> list[Path]:
        ready.wait(timeout=60)
        return [ClipCache(cache.root).build(name) for name in videos]

    builders = [in_process(build) for _ in range(2)]
    assert builders[0]() == builders[1]()
    assert files(cache.root) == ["small-256-v1"] * 4
    assert all(entry_of(cache, name) is not None for name in videos)


def test_a_full_disk_leaves_no_half_entry(cache, video):
    for limit in (0, 100, 5_000, cache.build(video).stat().st_size - 10):
        cache.clear()

        def build(limit: int = limit) -> Path:
            # The kernel refuses the write, as it does on a full disk.
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            return ClipCache(cache.root).build(video)

        message = in_process(build)()
        assert message.startswith(f"cannot write the clip cache entry of {video} in {cache.root}: ")
        assert "have MMACT_TINY_CACHE name another folder" in message
        assert files(cache.root) == []
        assert entry_of(cache, video) is None
    assert cache.build(video).exists()


def test_what_does_not_fit_is_not_cached_and_removes_nothing(cache, video):
    videos = [make_video(video.with_name(f"{i}.mp4"), num_frames=8 + i) for i in range(4)]
    size = cache.build(videos[0]).stat().st_size
    bounded = ClipCache(cache.root, max_bytes=size + 10, format="fast")
    report = bounded.build_many(videos, workers=1)  # entries of other settings count too
    assert report == dict.fromkeys(map(str, videos), "no room")
    bounded = ClipCache(cache.root, max_bytes=int(size * 2.5))
    report = bounded.build_many(videos, workers=1)
    assert [report[str(name)] for name in videos] == ["present", "built", "no room", "no room"]
    assert size < bounded.num_bytes() <= size * 2.5
    with pytest.raises(CacheFullError, match=f"in the {int(size * 2.5)} bytes of the cache"):
        bounded.build(videos[3])
    assert files(cache.root) == ["small-256-v1"] * 2, "nothing is left of what did not fit"
    bounded.clear()
    assert bounded.build(videos[3]).exists()


def test_the_bound_counts_what_other_processes_write(cache, video):
    videos = [make_video(video.with_name(f"{i}.mp4"), num_frames=8) for i in range(2)]
    videos += [make_video(video.with_name("2.mp4"), num_frames=9)]
    size = cache.build(video).stat().st_size
    cache.clear()
    bounded = ClipCache(cache.root, max_bytes=int(size * 2.5))
    bounded.build(videos[0])
    cache.build(video)
    cache.build(make_video(video.with_name("3.mp4"), size=(320, 180), num_frames=23))
    with pytest.raises(CacheFullError):
        bounded.build(videos[2])


def test_build_many_reports_each_video(cache, video):
    other = make_video(video.with_name("other.mp4"), num_frames=6)
    bad = video.with_name("bad.mp4")
    bad.write_text("no video")
    missing = video.with_name("missing.mp4")
    cache.build(other)
    abandoned = cache.root / "tmp" / "killed.mp4"
    abandoned.touch()
    os.utime(abandoned, (0, 0))
    report = cache.build_many([video, other, bad, missing, video], workers=2)
    assert (len(report), report[str(video)], report[str(other)]) == (4, "built", "present")
    assert "cannot cache" in report[str(bad)] and "No such file" in report[str(missing)]
    assert files(cache.root) == ["small-256-v1", "small-256-v1"]


def test_clear_removes_only_the_cache(cache, video):
    size = cache.build(video).stat().st_size
    mine = cache.root / "notes.txt"
    mine.touch()
    found = cache.find(video)
    assert found is not None
    reader = ClipReader(*found)
    assert cache.clear() == size
    assert reader.get_batch([0, 20]).asnumpy().shape == (2, 180, 320, 3), "it was open"
    assert [path.name for path in cache.root.iterdir()] == ["notes.txt"]
    mine.unlink()
    assert cache.build(video).exists() and cache.clear() == size
    assert not cache.root.exists() and cache.clear() == 0


def test_bad_arguments_and_folders(tmp_path, video):
    for wrong in (dict(format="tiny"), dict(short_side=0), dict(max_bytes=-1)):
        with pytest.raises(UserError):
            ClipCache(tmp_path, **wrong)  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the clip cache entry"):
        ClipCache(tmp_path / "file" / "cache").build(video)
    with pytest.raises(ClipError, match="No such file"):
        entry_of(ClipCache(tmp_path), tmp_path / "missing.mp4")


def test_the_default_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.delenv("MMACT_TINY_CACHE", raising=False)
    assert default_root() == Path("/somewhere/mmact_tiny/clips")
    monkeypatch.setenv("MMACT_TINY_CACHE", "/disk/clips")
    assert default_root() == Path("/disk/clips")
