"""Artefacts in an object store: download, integrity, and errors with next steps."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from servers import object_store

from modelbook.errors import StoreError
from modelbook.registry import artifact_storage, store
from modelbook.registry.artifact_storage import compute_folder_digest, download_verified_folder


@pytest.fixture
def source(tmp_path: Path) -> tuple[str, Path]:
    """Files in an object store, and the same on this machine."""
    folder = tmp_path / "here"
    (folder / "scorer" / "deep").mkdir(parents=True)
    for name in ("contract.yaml", "scorer/model.onnx", "scorer/deep/golden.json"):
        (folder / name).write_text(f"this is {name}")
    uri = f"memory://bucket/{tmp_path.name}/artifacts"
    fsspec.filesystem("memory").put(f"{folder}/", uri.removeprefix("memory:/"), recursive=True)
    return uri, folder


def test_files_are_downloaded_once_and_completely(source: tuple[str, Path], tmp_path: Path) -> None:
    uri, folder = source
    download_verified_folder(uri, tmp_path / "cache" / "abc", compute_folder_digest(folder))
    assert compute_folder_digest(tmp_path / "cache" / "abc") == compute_folder_digest(folder)
    download_verified_folder(
        "memory://gone", tmp_path / "cache" / "abc", compute_folder_digest(folder)
    )  # already cached: no request
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["abc"]


def test_altered_remote_files_are_refused(source: tuple[str, Path], tmp_path: Path) -> None:
    uri, folder = source
    fsspec.filesystem("memory").pipe(f"{uri.removeprefix('memory:/')}/scorer/model.onnx", b"other")
    with pytest.raises(StoreError, match="memory://") as exc_info:
        download_verified_folder(uri, tmp_path / "cache" / "abc", compute_folder_digest(folder))
    assert compute_folder_digest(folder)[:12] in exc_info.value.expected
    assert list((tmp_path / "cache").iterdir()) == []


def test_interrupted_download_leaves_nothing_and_next_succeeds(
    source: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, folder = source
    filesystem_class = type(fsspec.filesystem("memory"))
    original_get_file = filesystem_class.get_file

    def failing_get_file(self: Any, source: str, *args: Any, **kwargs: Any) -> None:
        if source.endswith("golden.json"):
            raise TimeoutError("Read timed out")
        original_get_file(self, source, *args, **kwargs)

    monkeypatch.setattr(filesystem_class, "get_file", failing_get_file)
    with pytest.raises(StoreError, match="TimeoutError: Read timed out") as exc_info:
        download_verified_folder(uri, tmp_path / "cache" / "abc", compute_folder_digest(folder))
    assert exc_info.value.next
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.setattr(filesystem_class, "get_file", original_get_file)
    download_verified_folder(uri, tmp_path / "cache" / "abc", compute_folder_digest(folder))
    assert compute_folder_digest(tmp_path / "cache" / "abc") == compute_folder_digest(folder)


def test_write_check_leaves_no_files(tmp_path: Path) -> None:
    artifact_storage.check_write_access(f"memory://{tmp_path.name}/probed")
    assert fsspec.filesystem("memory").find(f"/{tmp_path.name}") == []


# A real client, and an S3 by moto


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with object_store(monkeypatch, "models") as client:
        yield client


def get_store_error(root: Path, uri: str) -> StoreError:
    """Return the StoreError for an unusable artifact location, raised within 60 seconds."""
    (root / "store.yaml").write_text(f"artifacts: {uri}")
    start_time = time.monotonic()
    with pytest.raises(StoreError) as exc_info:
        store.ensure_store(root)
    assert time.monotonic() - start_time < 60
    assert "a-secret-word" not in str(exc_info.value)
    assert not store.get_database_path(root).exists()
    return exc_info.value


@pytest.mark.slow
def test_missing_bucket_is_reported(s3: Any, tmp_path: Path) -> None:
    result = get_store_error(tmp_path, "s3://nothing/deep")
    assert re.search(r"nothing.*bucket does not exist", result.problem)
    assert "artifacts" in result.next


@pytest.mark.slow
def test_folder_is_deleted_with_all_files(s3: Any, tmp_path: Path) -> None:
    for name in ("a.txt", "deep/b.txt"):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for folder in ("v1", "v11"):
        artifact_storage.upload_folder(tmp_path / "folder", f"s3://models/old/{folder}")
    for _ in range(2):
        artifact_storage.delete_folder("s3://models/old/v1")
    listed = s3.list_objects_v2(Bucket="models", Prefix="old/")["Contents"]
    assert [entry["Key"] for entry in listed] == ["old/v11/a.txt", "old/v11/deep/b.txt"]


@pytest.mark.slow
def test_missing_credentials_are_reported(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    result = get_store_error(tmp_path, "s3://models/deep")
    assert "NoCredentialsError" in result.problem
    assert "AWS_ACCESS_KEY_ID" in result.next


@pytest.mark.slow
def test_unreachable_store_is_reported(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    result = get_store_error(tmp_path, "s3://models/deep")
    assert "models/deep" in result.problem
    assert result.next


def require_authentication(after_requests: str) -> None:
    """Make the moto server check permissions after a number of requests."""
    url = f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/reset-auth"
    urllib.request.urlopen(
        urllib.request.Request(url, after_requests.encode(), {"content-type": "text/plain"})
    ).close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("allowed", "fact"),
    [
        (["s3:GetObject", "s3:ListBucket"], "Access Denied"),
        (None, "InvalidAccessKeyId|does not exist in our records"),
    ],
    ids=["may not write", "unknown key"],
)
def test_access_denied_is_reported(
    allowed: list[str] | None, fact: str, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    if allowed:
        iam = boto3.client("iam")
        iam.create_user(UserName="reader")
        policy = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": allowed, "Resource": "*"}],
        }
        iam.put_user_policy(
            UserName="reader", PolicyName="reads", PolicyDocument=json.dumps(policy)
        )
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    require_authentication("0")  # from now on requests need valid credentials
    try:
        result = get_store_error(tmp_path, "s3://models/deep")
    finally:
        require_authentication("inf")
    assert re.search(fact, result.problem)
    assert result.next
