"""What `data.store.options` hands to the file system of an object store, and what it refuses."""

import json
import os
import re

import pytest

from selftrain.data import places, remote
from selftrain.data.mirror import mirrored
from selftrain.data.spec import StoreSpec
from selftrain.errors import ConfigError
from selftrain.settings import compose


def test_secrets_do_not_reach_the_settings_and_runs_stay_on_file_systems():
    for setting, words in {
        "data.store.options={secret: x}": "AWS_PROFILE",
        "data.store.options={account_key: x}": "no credentials",
        "data.store.options={connection_string: x}": "no credentials",
        "data.store.options={client_kwargs: {headers: [{Authorization: x}]}}": "no credentials",
        "out=s3://bucket/run": "folder of a file system",
    }.items():
        with pytest.raises(ConfigError, match=words):
            compose(["recipe=smoke", setting])
    for known in ({"token": "anon"}, {"anon": True}, {"client_kwargs": {"region_name": "token-secret"}}):
        words = f"data.store.options={json.dumps(known)}"
        assert compose(["recipe=smoke", words]).data.store.options == known
    with pytest.raises(ConfigError, match="use the environment"):
        mirrored("http://user:password@host/data", StoreSpec(cache="", cache_mb=64, tries=4, options={}))


@pytest.mark.parametrize("place", ["command line", "file"])
def test_options_reach_the_file_system_as_yaml_reads_them(place, tmp_path):
    """A text `false` would be true for the file system, and a dict as text an error of Python."""
    text, mine = "{config_kwargs: {read_timeout: 7}, use_ssl: false}", tmp_path / "mine.yaml"
    rows = f"  root: s3://bucket/x\n  classes: [a, b]\n  store: {{options: {text}}}\n"
    mine.write_text(f"# @package _global_\ndata:\n  format: folder\n{rows}")
    words = [f"data.store.options={text}"] if place == "command line" else [str(mine)]
    options = compose([*words, "data.store.options.config_kwargs.connect_timeout=3"]).data.store.options
    assert options == {"config_kwargs": {"read_timeout": 7, "connect_timeout": 3}, "use_ssl": False}
    kept = places.Store("s3://bucket/x", tmp_path, 64, 1, json.dumps(options))
    files, _ = remote.filesystem(kept, os.getpid())
    assert files.use_ssl is False and files.config_kwargs["read_timeout"] == 7


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("=3", "=3: expected names with their values in braces, e.g. 'data.store.options={anon: true}'"),
        ("={a: [1}", "={a: [1}: expected names"),
        (".date=2020-01-01", ".date=2020-01-01: expected a value as YAML writes it"),
    ],
)
def test_options_that_yaml_does_not_read_are_refused(given, said):
    with pytest.raises(ConfigError, match=re.escape(f"data.store.options{said}")):
        compose(["recipe=smoke", f"data.store.options{given}"])
